"""How a figure is spread over the pictures: a histogram with round bins, the mean with its interval, and the gate's line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sprint_export.nouns.report import Measurement, PictureRow
from sprint_export.validate.page.axes import Axis, make_axis
from sprint_export.validate.page.limits import Limit, read_limits
from sprint_export.validate.page.templates import render
from sprint_export.validate.page.tiles import list_figures

WIDTH, HEIGHT = 360.0, 172.0
LEFT, RIGHT, TOP, BOTTOM = 30.0, 342.0, 22.0, 150.0
BINS_A_TICK = 4
LEAST_SHARE = 0.15  # of the width that the values keep where a limit is far away; else the limit is told, not drawn


@dataclass(frozen=True)
class _Bar:
    left: float
    right: float
    top: float
    says: str


def render_distributions(pictures: Sequence[PictureRow], rows: Iterable[Measurement]) -> Markup:
    """A histogram of every figure that pictures have."""
    by_metric = {row.metric: row for row in rows if not row.component}
    plots = (
        _render_histogram(name, [p.figures[name] for p in pictures if name in p.figures], by_metric.get(name))
        for name in list_figures(pictures)
    )
    return render("plots.html", plots=[plot for plot in plots if plot])


def _render_histogram(name: str, values: Sequence[float], row: Measurement | None) -> Markup:
    found = np.array([value for value in values if math.isfinite(value)])
    if not found.size:
        return Markup("")
    limits = read_limits(row) if row is not None else []
    axis = _choose_axis(found.tolist(), limits)
    drawn = [limit for limit in limits if axis.low <= limit.value <= axis.high]
    edges = np.linspace(axis.low, axis.high, BINS_A_TICK * round((axis.high - axis.low) / axis.step) + 1)
    counts = np.histogram(found, edges)[0]
    down = make_axis((0, max(1, int(counts.max()))), BOTTOM, TOP, 3)
    interval = row.interval if row is not None and row.interval is not None else None
    return render(
        "histogram.html",
        name=name,
        unit=row.unit if row is not None else "",
        bars=list(_draw_bars(counts.tolist(), edges.tolist(), axis, down)),
        across=axis,
        down=[(at, label) for at, label in down.ticks if "." not in label],
        limits=[(axis.place(limit.value), limit) for limit in drawn],
        missing=[limit for limit in limits if limit not in drawn],
        mean=axis.place(float(found.mean())),
        interval=[axis.place(end) for end in interval] if interval else None,
        facts=_describe(found, len(values)),
        frame=(LEFT, TOP, RIGHT, BOTTOM),
        size=(WIDTH, HEIGHT),
    )


def _choose_axis(values: Sequence[float], limits: Sequence[Limit]) -> Axis:
    """With the limits on it, where the values do not shrink to nothing by that."""
    alone = make_axis(values, LEFT, RIGHT)
    whole = make_axis([*values, *(limit.value for limit in limits)], LEFT, RIGHT)
    share = (alone.high - alone.low) / (whole.high - whole.low)
    return whole if share >= LEAST_SHARE else alone


def _draw_bars(counts: Sequence[int], edges: Sequence[float], axis: Axis, down: Axis) -> Iterator[_Bar]:
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        if count:
            says = f"{low:.6g} to {high:.6g}: {count} picture{'s' if count > 1 else ''}"
            yield _Bar(axis.place(low) + 0.5, axis.place(high) - 0.5, down.place(count), says)


def _describe(values: np.ndarray[tuple[int], np.dtype[np.float64]], total: int) -> list[tuple[str, float]]:
    facts = [
        ("least", float(values.min())),
        ("median", float(np.median(values))),
        ("mean", float(values.mean())),
        ("most", float(values.max())),
    ]
    return [*facts, ("no number", float(total - values.size))] if total > values.size else facts
