"""Whether an interval decides a demand, and how many pictures would. Standard library only."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Gate, Verdict

if TYPE_CHECKING:
    from sprint_export.validate.confidence.evidence import Evidence

MOST_NEEDED = 1_000_000  # pictures; who would need more is told no count
CONFIDENCE = 0.95
OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def decide(gate: Gate, value: float, interval: tuple[float, float] | None = None) -> Verdict:
    """Met where all of the interval does, not met where none of it does; without one the value decides. NaN meets nothing."""
    holds = OPERATORS[gate.sign]
    ends = [holds(end, gate.limit) for end in interval or (value, value)]
    return "met" if all(ends) else "not decided" if any(ends) else "not met"


def weigh(gate: Gate, evidence: Evidence, confidence: float = CONFIDENCE) -> Verdict:
    """The verdict of a sample; one picture of which nothing else is known can fail a demand and cannot meet it."""
    interval = evidence.interval(confidence)
    verdict = decide(gate, evidence.value, interval)
    return "not decided" if interval is None and verdict == "met" and evidence.count < 2 else verdict


def is_enough(gate: Gate, evidence: Evidence, confidence: float) -> bool:
    """Whether a validation may stop here as far as this gate goes: it is decided, and not by few pictures near its limit."""
    return weigh(gate, evidence, confidence) != "not decided" and evidence.is_clear(gate.limit)


def count_needed(gate: Gate, evidence: Evidence, confidence: float = CONFIDENCE) -> int | None:
    """Fewest pictures that would decide a gate if they showed what these show; None where the value is its very limit."""
    if evidence.interval(confidence) is None:
        return None
    low, high = int(evidence.count), int(evidence.count)
    while _is_open(gate, evidence, high, confidence):
        low, high = high, 2 * high
        if high > MOST_NEEDED:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_open(gate, evidence, middle, confidence) else (low, middle)
    return high


def is_reachable(gate: Gate, evidence: Evidence, count: int, confidence: float = CONFIDENCE) -> bool:
    """Whether so many pictures could decide a gate at all, with the clearest result."""
    return weigh(gate, evidence.grow(count).at_best(), confidence) != "not decided"


def _is_open(gate: Gate, evidence: Evidence, count: int, confidence: float) -> bool:
    return weigh(gate, evidence.grow(count), confidence) == "not decided"
