"""The order of entries, their verdicts, and the front: those that no other beats in quality, latency and size together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.validate.comparing.figures import LATENCY, NO_BLANKS, PSNR, SIZE
from sprint_export.validate.confidence.evidence import Mean
from sprint_export.validate.gates import apply_gates
from sprint_export.validate.image_metrics.metric import list_image_metrics
from sprint_export.validate.metrics import find_metric, list_metrics

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LESS_IS_BETTER = (LATENCY, SIZE, NO_BLANKS.metric)
LESS_WORDS = ("flips", "drop")  # in names of what judges count against an entry
MET, NOT_MET, UNDECIDED = "met", "not met", "not decided"

Rows = Sequence[Measurement]


def is_less_better(metric: str) -> bool:
    """Whether an entry is the better the less it has of this."""
    if metric in LESS_IS_BETTER or any(word in metric for word in LESS_WORDS):
        return True
    return any(metric in each.rows and each.better == "lower" for each in list_image_metrics())


def find_value(rows: Rows, metric: str) -> float | None:
    """The value of a row; None where there is none, or it is no number."""
    value = next((row.value for row in rows if row.metric == metric), None)
    return None if value is None or math.isnan(value) else value


def order_entries(rows: Mapping[str, Rows], metric: str) -> list[str]:
    """Names, best first; entries with blank pictures come after all others, those without the metric last of all.

    Raises:
        InputError: no entry has the metric.
    """
    known = sorted({row.metric for each in rows.values() for row in each})
    if metric not in known:
        raise InputError(f"--rank-by {metric}: no entry has it; choose from: {', '.join(known)}")
    sign = 1 if is_less_better(metric) else -1

    def place(name: str) -> tuple[bool, bool, float]:
        value = find_value(rows[name], metric)
        return value is None, bool(find_value(rows[name], NO_BLANKS.metric)), 0.0 if value is None else sign * value

    return sorted(rows, key=place)


def find_front(rows: Mapping[str, Rows], quality: str = PSNR) -> set[str]:
    """Names of those with a latency and a size, and without blank pictures, that no other beats."""
    sign = 1 if is_less_better(quality) else -1
    figures = {}
    for name, each in rows.items():
        values = [find_value(each, metric) for metric in (quality, LATENCY, SIZE)]
        if not find_value(each, NO_BLANKS.metric) and None not in values:
            known = [value for value in values if value is not None]
            figures[name] = (sign * known[0], *known[1:])

    def is_beaten(own: tuple[float, ...]) -> bool:
        return any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in figures.values())

    return {name for name, own in figures.items() if not is_beaten(own)}


def check_names(names: Iterable[str]) -> None:
    """Refuse metrics that no report has, before anything is drawn.

    Raises:
        InputError: there is one; the message lists those that there are.
    """
    own = {NO_BLANKS.metric, *(row for metric in list_image_metrics() for row in metric.rows)}
    for name in names:
        if name not in own and find_metric(name) is None:
            raise unknown_choice("metric", name, {*own, *(metric.name for metric in list_metrics())})


def check_asked(rows: Iterable[Rows], asked: Sequence[Gate]) -> None:
    """Refuse gates on what no entry has.

    Raises:
        InputError: there is one.
    """
    known = sorted({row.metric for each in rows for row in each})
    for gate in asked:
        if gate.metric not in known:
            raise InputError(f"gate metric {gate.metric!r}: no entry has it; choose from: {', '.join(known)}")


def judge_entry(
    rows: Rows, asked: Sequence[Gate], figures: Mapping[str, npt.NDArray[np.float64]] | None = None
) -> tuple[tuple[Measurement, ...], str]:
    """The rows with their gates, and the entry's verdict; what it does not have is not decided.

    Args:
        rows: of the entry.
        asked: gates, beside that on blank pictures.
        figures: values by metric, one a picture: they say how many would decide.
    """
    evidence = {name: Mean(values) for name, values in (figures or {}).items()}
    names = {row.metric for row in rows}
    gates = [*([] if any(gate.metric == NO_BLANKS.metric for gate in asked) else [NO_BLANKS]), *asked]
    judged = apply_gates(rows, [gate for gate in gates if gate.metric in names], evidence=evidence)
    verdicts = [row.verdict for row in judged] + [UNDECIDED for gate in asked if gate.metric not in names]
    return judged, next((verdict for verdict in (NOT_MET, UNDECIDED) if verdict in verdicts), MET)
