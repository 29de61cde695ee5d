"""A gate's limits as numbers, and what a value lies between them: the plot beside each gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.validate.gates import read_gates
from sprint_export.validate.page.axes import Axis, make_axis
from sprint_export.validate.page.templates import render, show_number

SIGNS = {">=": "\u2265", "<=": "\u2264", ">": ">", "<": "<"}
WIDTH, LEFT, RIGHT = 256.0, 10.0, 246.0
MARGIN = 0.12  # of the range, left free on both sides


@dataclass(frozen=True)
class Limit:
    """One demand: met on this side of a value."""

    value: float
    is_least: bool
    text: str


def read_limits(row: Measurement) -> list[Limit]:
    """The limits of a row; none where its text is no gate's (a report may come from anywhere)."""
    try:
        gates = read_gates((row.limit or "").split(" and ") if row.limit else ())
    except InputError:
        return []
    return [_read_limit(gate) for gate in gates]


def _read_limit(gate: Gate) -> Limit:
    return Limit(gate.limit, gate.sign.startswith(">"), f"{SIGNS[gate.sign]} {show_number(gate.limit)}")


def draw_interval(row: Measurement) -> Markup:
    """Value, interval and limits of a row on one line; nothing where one is no number."""
    limits = read_limits(row)
    values = [row.value, *(row.interval or ()), *(limit.value for limit in limits)]
    if not limits or not all(map(math.isfinite, values)):
        return Markup("")
    axis = _make_line(values)
    low, high = row.interval or (row.value, row.value)
    return render(
        "interval.html",
        width=WIDTH,
        ends=(LEFT, RIGHT),
        value=axis.place(row.value),
        low=axis.place(low),
        high=axis.place(high),
        has_interval=row.interval is not None,
        limits=[(axis.place(limit.value), limit) for limit in limits],
        met=_find_met(limits, axis),
        says=f"{row.metric} {show_number(row.value)}, limit {', '.join(limit.text for limit in limits)}",
    )


def _make_line(values: Sequence[float]) -> Axis:
    low, high = min(values), max(values)
    margin = (high - low) * MARGIN or abs(high) * MARGIN or 1.0
    rounded = make_axis((low - margin, high + margin), LEFT, RIGHT)
    return Axis(low - margin, high + margin, LEFT, RIGHT, rounded.step)


def _find_met(limits: Iterable[Limit], axis: Axis) -> tuple[float, float]:
    """The pixels between which all limits are met; the second is not the greater where there are none."""
    limits = list(limits)
    start = max([LEFT, *(axis.place(limit.value) for limit in limits if limit.is_least)])
    return start, min([RIGHT, *(axis.place(limit.value) for limit in limits if not limit.is_least)])
