"""Drawings as rows of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sprint_export.errors import unknown_choice
from sprint_export.nouns.report import Gate, Measurement, Metric
from sprint_export.validate.latency.quantiles import Interval, bound_median, bound_quantile, count_needed, find_quantile
from sprint_export.validate.latency.turns import LEAST_QUIET, Side, Timed, choose_quiet
from sprint_export.validate.report import format_number

WHOLE = "whole picture"
PERCENTS = (50, 90, 99)
OTHER = "other_"  # before the metrics of other sides, which no gate is about
SPEEDUP = "speedup"
METRICS = tuple(
    map(
        Metric,
        (
            *(f"latency_p{percent}_ms" for percent in PERCENTS),
            *("latency_mean_ms", "latency_p90_early_stopping_ms", "latency_drift_percent", SPEEDUP),
            *("first_picture_ms", "cold_start_ms", "open_ms", "peak_memory_mb", "device_memory_mb", "nodes_on_cpu"),
        ),
    )
)


def check_gate_metrics(gates: Iterable[Gate]) -> None:
    """Refuse gates on rows that no bench has, before any work.

    Raises:
        InputError: the message lists those that it may have.
    """
    for gate in gates:
        if not any(metric.fits(gate.metric) for metric in METRICS):
            raise unknown_choice("gate metric of a bench", gate.metric, (metric.name for metric in METRICS))


def list_seconds(drawn: Sequence[Timed]) -> dict[str, list[float]]:
    """Seconds of all calls of each network, and of the whole drawings, in order."""
    seconds: dict[str, list[float]] = {}
    for each in drawn:
        for role, calls in each.calls.items():
            seconds.setdefault(role, []).extend(calls)
    return seconds | {WHOLE: [each.seconds for each in drawn]}


def describe_timed(
    drawn: Sequence[Timed], pictures: int = 1, of: str = "", elsewhere: Sequence[Mapping[str, float]] = ()
) -> list[Measurement]:
    """Percentiles of every network and of the whole, in milliseconds a picture.

    Args:
        drawn: in order; each of `pictures` at once.
        pictures: by which seconds are divided.
        of: the label of another side, which then stands before what rows are of.
        elsewhere: p50s of fresh processes, in seconds, by network.
    """
    chosen = choose_quiet(drawn)
    is_all = len(chosen) == len(drawn)
    is_busy = is_all and len(drawn) >= LEAST_QUIET and sum(each.is_quiet for each in drawn) < LEAST_QUIET
    note = "" if pictures == 1 else f"a picture, of {pictures} drawn at once; "
    note += _describe_choice(drawn, chosen, is_busy)
    rows = []
    for role, values in list_seconds(chosen).items():
        scaled = [1e3 * value / pictures for value in values]
        fresh = [1e3 * each[role] / pictures for each in elsewhere if role in each]
        for percent in PERCENTS:
            interval = bound_median(scaled, fresh) if percent == 50 else bound_quantile(scaled, percent / 100)
            if is_busy:
                interval = min(scaled), max(scaled)
            needed = f"; an interval takes {count_needed(percent / 100)}" if interval is None else ""
            value = find_quantile(scaled, percent / 100)
            name, what = (f"{OTHER}latency_p{percent}_ms", f"{of}: {role}") if of else (f"latency_p{percent}_ms", role)
            rows.append(Measurement(name, value, "ms", what, note=f"{note}{needed}", interval=_round(interval)))
    return rows


def describe_mean(drawn: Sequence[Timed], pictures: int) -> list[Measurement]:
    """The mean of all drawings, as MLPerf Client gives it."""
    seconds = [each.seconds for each in drawn]
    spread = f"{format_number(1e3 * min(seconds) / pictures)} to {format_number(1e3 * max(seconds) / pictures)}"
    note = f"mean of {len(seconds)} drawings, {spread} ms; by MLPerf Client's number of drawings, not its model"
    return [Measurement("latency_mean_ms", 1e3 * sum(seconds) / len(seconds) / pictures, "ms", WHOLE, note=note)]


def describe_sweep(drawn: Sequence[Timed], side: Side) -> list[Measurement]:
    """The whole picture's percentiles of a side that draws another number at once."""
    rows = describe_timed(drawn, side.pictures, of=f"{side.pictures} at once")
    return [row for row in rows if row.component.endswith(f": {WHOLE}")]


def describe_ratio(side: Side, ratio: float, interval: Interval | None, blocks: int) -> Measurement:
    """How many times longer another side takes for the same."""
    needed = "" if interval else f"; an interval takes {count_needed(0.5)}"
    note = f"{side.label} takes so many times as long: median of {blocks} blocks drawn in turn{needed}"
    return Measurement(SPEEDUP, ratio, "x", side.label, note=note, interval=_round(interval))


def _describe_choice(drawn: Sequence[Timed], chosen: Sequence[Timed], is_busy: bool) -> str:
    count = f"of {len(chosen)} drawings"
    if is_busy:
        disturbed = sum(not each.is_quiet for each in drawn)
        return f"{count}; the machine was busy, {disturbed} waited for processors: the interval is all that was seen"
    if len(chosen) == len(drawn):
        return count
    every = 1e3 * find_quantile([each.seconds for each in drawn], 0.5)
    return f"{count}; {len(drawn) - len(chosen)} that waited for processors are left out (p50 of all {format_number(every)} ms)"


def _round(interval: Interval | None) -> Interval | None:
    return None if interval is None else (float(interval[0]), float(interval[1]))


def list_minutes(drawn: Sequence[Timed]) -> list[Mapping[str, float]]:
    """For each minute that was drawn in: its number of drawings and their p50 in ms; a last one of less than half is left out."""
    if not drawn:
        return []
    minutes: dict[int, list[Timed]] = {}
    for each in drawn:
        minutes.setdefault(int((each.began - drawn[0].began) // 60), []).append(each)
    last = drawn[-1].began + drawn[-1].seconds - drawn[0].began
    if len(minutes) > 1 and last - 60 * max(minutes) < 30:
        del minutes[max(minutes)]
    return [
        {"minute": minute, "runs": len(part), "p50_ms": 1e3 * find_quantile([each.seconds for each in choose_quiet(part)], 0.5)}
        for minute, part in minutes.items()
    ]


def describe_drift(minutes: Sequence[Mapping[str, float]]) -> list[Measurement]:
    """How much longer the last minute's pictures took than the first one's; nothing of one minute."""
    if len(minutes) < 2:
        return []
    first, last = minutes[0]["p50_ms"], minutes[-1]["p50_ms"]
    note = f"p50 of minute {minutes[-1]['minute'] + 1:.0f} against the first: {format_number(first)} -> {format_number(last)} ms"
    return [Measurement("latency_drift_percent", 100 * (last / first - 1), "%", WHOLE, note=note)]
