"""What would help on a device: another target, precision, decoder or number of steps, with what it gains in time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sprint_export.planning.plan import DevicePlan

LEAST_GAIN = 0.02  # of the time or the memory of a picture: what is less is none
NEAR = 0.5  # of the time that a smaller pair may take more
MOST = 6


@dataclass(frozen=True)
class Advice:
    """A change, the milliseconds of a picture that it saves (None: not priced; below 0 it costs), and the MB.

    `makes_fit`: it fits where what was looked at does not.
    """

    change: str
    saves_ms: float | None
    saves_mb: float
    note: str = ""
    makes_fit: bool = False


def advise(chosen: DevicePlan, others: Sequence[DevicePlan], steps: int, decoder: DevicePlan | None = None) -> tuple[Advice, ...]:
    """What would help, the most first; all prices as reached.

    Args:
        chosen: the pair that is looked at.
        others: other pairs on the same device.
        steps: of the chosen one.
        decoder: the chosen pair with another decoder, where one was named.
    """
    found = [*_compare(chosen, others), *_shorten(chosen, steps), *_replace_decoder(chosen, decoder)]
    if chosen.room is not None and chosen.memory > chosen.room >= chosen.memory_apart:
        saved = (chosen.memory - chosen.memory_apart) / 1e6
        found.append(Advice("one network in memory at a time", None, saved, "loads each network anew for every picture"))
    return tuple(sorted(found, key=lambda each: (not each.makes_fit, -(each.saves_ms or 0.0), -each.saves_mb))[:MOST])


def _compare(chosen: DevicePlan, others: Sequence[DevicePlan]) -> Iterator[Advice]:
    """Pairs that are faster, smaller and not much slower, or that fit where the chosen one does not."""
    for each in others:
        saved_mb = (chosen.memory - each.memory) / 1e6
        is_smaller = saved_mb * 1e6 > LEAST_GAIN * chosen.memory
        if chosen.reached_ms is None or each.reached_ms is None:
            if is_smaller and each.reached_ms is None and chosen.reached_ms is None:
                yield Advice(each.name, None, saved_mb, "time not priced")
            continue
        saved_ms = chosen.reached_ms - each.reached_ms
        is_faster, is_near = saved_ms > LEAST_GAIN * chosen.reached_ms, saved_ms > -NEAR * chosen.reached_ms
        makes_fit = _makes_fit(chosen, each)
        if is_faster or (is_smaller and is_near) or makes_fit:
            yield Advice(each.name, saved_ms, saved_mb, f"on the {each.unit}" if each.unit != chosen.unit else "", makes_fit)


def _makes_fit(chosen: DevicePlan, other: DevicePlan) -> bool:
    """Whether the other fits where the chosen one does not."""
    return chosen.room is not None and other.room is not None and chosen.memory > chosen.room and other.memory <= other.room


def _shorten(chosen: DevicePlan, steps: int) -> Iterator[Advice]:
    """One step in place of several."""
    repeated = [each for each in chosen.networks if each.work.times > 1 and each.reached is not None]
    if steps > 1 and repeated:
        saved = sum(each.reached.milliseconds * (1 - 1 / each.work.times) for each in repeated if each.reached is not None)
        yield Advice("--steps 1", saved, 0.0, f"in place of {steps}; what it costs in quality a validation says")


def _replace_decoder(chosen: DevicePlan, decoder: DevicePlan | None) -> Iterator[Advice]:
    """The decoder that was named or, where the last network makes most of the price, what a lighter one could gain at most."""
    if decoder is not None:
        saved = None
        if chosen.reached_ms is not None and decoder.reached_ms is not None:
            saved = chosen.reached_ms - decoder.reached_ms
        yield Advice("the decoder of --decoder", saved, (chosen.memory - decoder.memory) / 1e6)
        return
    priced = [each for each in chosen.networks if each.reached is not None]
    last = next((each for each in reversed(priced) if each.work.times == 1), None)
    if last is None or last.reached is None or chosen.reached_ms is None or last.reached.milliseconds < 0.3 * chosen.reached_ms:
        return
    half = last.reached.milliseconds / 2
    share = last.reached.milliseconds / chosen.reached_ms
    note = f"if it asks half as much; {last.work.role} makes {share:.0%} of the time; price one: --decoder FOLDER"
    yield Advice("a lighter decoder", half, last.work.weights / 2e6, note)
