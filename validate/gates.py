"""What a bundle must reach, with one line of why, and how a user says otherwise: 'psnr_db>=30'."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate, Measurement, Verdict
from sprint_export.quantize.schemes.gates import SHARE
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.validate.confidence.decisions import CONFIDENCE, count_needed, decide, is_reachable, weigh
from sprint_export.validate.confidence.evidence import Evidence
from sprint_export.validate.metrics import find_metric

MEANINGFUL = 4  # pictures, where a mean has an interval worth its name
_FORM = re.compile(r"\s*([a-z0-9_-]+?)\s*(>=|<=|>|<)\s*([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)\s*")


def add_defaults(gates: Sequence[Gate], scheme: str, is_whole: bool = True, of_target: Sequence[Gate] = ()) -> tuple[Gate, ...]:
    """The scheme's and the target's default gates, with the user's in place of those on the same metric; all the user's hold.

    A recipe that is not whole leaves layers in float on purpose: of its bundle no share is demanded.
    """
    replaced = {gate.metric for gate in gates} | (set() if is_whole else {SHARE.metric})
    return (*(gate for gate in (*load_scheme(scheme).gates, *of_target) if gate.metric not in replaced), *gates)


def read_gates(demands: Iterable[str | Gate]) -> tuple[Gate, ...]:
    """The user's own gates, each once.

    Raises:
        InputError: a text is not of the form metric>=number.
    """
    return tuple(dict.fromkeys(demand if isinstance(demand, Gate) else _read_gate(demand) for demand in demands))


def _read_gate(text: str) -> Gate:
    match = _FORM.fullmatch(text)
    if match is None:
        raise InputError(f"gate {text!r} is not of the form metric>=number, e.g. 'psnr_db>=30' or 'adherence_drop_points<=2'")
    return Gate(match[1], match[2], float(match[3]), "asked for")


def apply_gates(
    rows: Iterable[Measurement], gates: Sequence[Gate], asked: Sequence[Gate] = (), evidence: Mapping[str, Evidence] | None = None
) -> tuple[Measurement, ...]:
    """Give every row that gates speak about its verdict.

    Met: all of the row's interval meets all gates. Not met: none of it meets one of them. Else not decided. A row without an
    interval is decided by its value; NaN meets nothing.

    Args:
        rows: with their intervals.
        gates: all.
        asked: those the user asked for.
        evidence: by metric, for how many pictures would decide.

    Raises:
        InputError: one of the gates the user asked for speaks about no row.
    """
    rows = tuple(rows)
    names = {row.metric for row in rows}
    for gate in asked:
        if gate.metric not in names:
            known = find_metric(gate.metric)
            why = f" (it takes {known.needs})" if known is not None and known.needs else ""
            raise InputError(f"gate metric {gate.metric!r} is not in this report{why}; choose from: {', '.join(sorted(names))}")
    return tuple(_judge(row, [gate for gate in gates if gate.metric == row.metric], evidence or {}) for row in rows)


def _judge(row: Measurement, gates: Sequence[Gate], evidence: Mapping[str, Evidence]) -> Measurement:
    if not gates:
        return row
    sample = None if row.component else evidence.get(row.metric)
    verdicts = [_decide(gate, row, sample) for gate in gates]
    verdict: Verdict = "not met" if "not met" in verdicts else "not decided" if "not decided" in verdicts else "met"
    limit = " and ".join(gate.text for gate in gates)
    return replace(row, limit=limit, verdict=verdict, needed=_count_needed(gates, sample) if verdict == "not decided" else None)


def _decide(gate: Gate, row: Measurement, sample: Evidence | None) -> Verdict:
    verdict = decide(gate, row.value, row.interval)
    is_single = sample is not None and row.interval is None and sample.count < 2
    return "not decided" if is_single and verdict == "met" else verdict


def _count_needed(gates: Sequence[Gate], sample: Evidence | None) -> int | None:
    """Enough for each of them; None where one is not decided by any number, or nothing is known of the sample."""
    if sample is None:
        return None
    counts = [count_needed(gate, sample) for gate in gates]
    return None if None in counts else max(count for count in counts if count is not None)


def drop_unreachable(
    gates: Sequence[Gate], asked: Sequence[Gate], evidence: Mapping[str, Evidence], confidence: float = CONFIDENCE
) -> tuple[tuple[Gate, ...], tuple[str, ...]]:
    """The gates without those defaults that these few pictures could not meet whatever they showed, and a sentence on each.

    A default that the pictures show to be missed stays, and so does all that the user asked for.
    """
    kept, sentences = [], []
    for gate in gates:
        sample = evidence.get(gate.metric)
        is_waited_for = gate in asked or sample is None or weigh(gate, sample, confidence) != "not decided"
        if is_waited_for or (sample is not None and is_reachable(gate, sample, int(sample.count), confidence)):
            kept.append(gate)
        elif sample is not None:
            sentences.append(_say_unreachable(gate, sample))
    return tuple(kept), tuple(sentences)


def _say_unreachable(gate: Gate, sample: Evidence) -> str:
    needed = count_needed(gate, sample.at_best()) or MEANINGFUL
    pictures = "1 picture" if sample.count == 1 else f"{sample.count:g} pictures"
    return f"{gate.text}: {pictures} cannot decide it, whatever they show; it takes at least {needed} (--count {needed})"
