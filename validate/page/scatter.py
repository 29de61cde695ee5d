"""Points of two figures each, with their intervals, and the line of those that no other beats in both: a Pareto plot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from sprint_export.validate.page.axes import Axis, make_axis
from sprint_export.validate.page.templates import clean, render

WIDTH, HEIGHT = 360.0, 300.0  # as wide as a phone shows without making letters smaller
LEFT, RIGHT, TOP, BOTTOM = 46.0, 350.0, 14.0, 256.0
RADIUS, LINE, LETTER = 8.0, 13.0, 6.1  # pixels: of a mark; height and width of a label's letters
LONGEST_LABEL = 26  # letters
COLOURS = 6  # of style.css, by group

Interval = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


@dataclass(frozen=True)
class Point:
    """What stands in a plot.

    Args:
        name: in the plot where there is room, and in the table under it.
        x: None or NaN: it is listed, not drawn.
        y: likewise.
        group: points of one group have one colour.
        x_interval: where x lies, as far as is known.
        y_interval: likewise.
        note: beside it in the table.
    """

    name: str
    x: float | None
    y: float | None
    group: str = ""
    x_interval: Interval | None = None
    y_interval: Interval | None = None
    note: str = ""

    @property
    def is_drawn(self) -> bool:
        """Whether it has both figures."""
        return all(value is not None and math.isfinite(value) for value in (self.x, self.y))


@dataclass(frozen=True)
class Scale:
    """What an axis shows: its title with the unit, and whether more is better."""

    title: str
    is_more_better: bool = False


@dataclass(frozen=True)
class _Mark:
    number: int
    point: Point
    x: float
    y: float
    colour: int
    is_best: bool = False
    bars: tuple[Box, ...] = ()
    label: str = ""
    label_x: float = 0.0
    label_y: float = 0.0
    anchor: str = "start"


def render_scatter(points: Sequence[Point], x: Scale, y: Scale, title: str) -> Markup:
    """A plot of the points, and a table of them; both number them alike.

    Args:
        points: in the table's order.
        x: the horizontal axis.
        y: the vertical one.
        title: what the plot shows, in a few words.
    """
    drawn = [point for point in points if point.is_drawn]
    across = make_axis(_reach(drawn, "x"), LEFT, RIGHT)
    down = make_axis(_reach(drawn, "y"), BOTTOM, TOP)
    best = find_best(drawn, x.is_more_better, y.is_more_better)
    groups = list(dict.fromkeys(point.group for point in points))
    marks = list(_place(points, across, down, best, groups))
    return render(
        "scatter.html",
        title=title,
        x=x,
        y=y,
        across=across,
        down=down,
        marks=_label(marks),
        line=_draw_frontier(marks, y.is_more_better),
        points=[(number, point, point in best) for number, point in enumerate(points, 1)],
        colours={group: _choose_colour(groups, group) for group in groups},
        frame=(LEFT, TOP, RIGHT, BOTTOM),
        size=(WIDTH, HEIGHT),
        radius=RADIUS,
    )


def find_best(points: Sequence[Point], is_more_x: bool, is_more_y: bool) -> list[Point]:
    """Those that no other beats in one figure and equals, or beats, in the other."""
    signs = (1 if is_more_x else -1, 1 if is_more_y else -1)

    def score(point: Point) -> tuple[float, float]:
        return signs[0] * (point.x or 0.0), signs[1] * (point.y or 0.0)

    def is_beaten(point: Point) -> bool:
        own = score(point)
        return any(all(a >= b for a, b in zip(score(other), own, strict=True)) and score(other) != own for other in points)

    return [point for point in points if not is_beaten(point)]


def _reach(points: Sequence[Point], name: str) -> Iterator[float]:
    for point in points:
        yield getattr(point, name)
        yield from getattr(point, f"{name}_interval") or ()


def _choose_colour(groups: Sequence[str], group: str) -> int:
    return groups.index(group) % COLOURS + 1


def _place(points: Sequence[Point], across: Axis, down: Axis, best: list[Point], groups: list[str]) -> Iterator[_Mark]:
    for number, point in enumerate(points, 1):
        if not point.is_drawn:
            continue
        x, y = across.place(point.x or 0.0), down.place(point.y or 0.0)
        bars = []
        if point.x_interval is not None:
            bars.append((across.place(point.x_interval[0]), y, across.place(point.x_interval[1]), y))
        if point.y_interval is not None:
            bars.append((x, down.place(point.y_interval[0]), x, down.place(point.y_interval[1])))
        yield _Mark(number, point, x, y, _choose_colour(groups, point.group), point in best, tuple(bars))


def _label(marks: Sequence[_Mark]) -> list[_Mark]:
    """Names beside the marks, where they cover nothing; the others have their number alone."""
    taken = [(mark.x - RADIUS, mark.y - RADIUS, mark.x + RADIUS, mark.y + RADIUS) for mark in marks]
    labelled = []
    for mark in marks:
        name = clean(mark.point.name)
        width = LETTER * len(name)
        places = (
            (mark.x + RADIUS + 4, mark.y + 4, "start"),
            (mark.x - RADIUS - 4, mark.y + 4, "end"),
            (mark.x, mark.y - RADIUS - 4, "middle"),
            (mark.x, mark.y + RADIUS + LINE - 1, "middle"),
        )
        for x, y, anchor in places:
            left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
            box = (left, y - LINE + 3, left + width, y + 3)
            is_inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= BOTTOM
            if len(name) <= LONGEST_LABEL and is_inside and not any(_overlaps(box, other) for other in taken):
                taken.append(box)
                mark = replace(mark, label=name, label_x=x, label_y=y, anchor=anchor)
                break
        labelled.append(mark)
    return labelled


def _overlaps(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _draw_frontier(marks: Sequence[_Mark], is_up: bool) -> str:
    """A path of steps through the best marks: between two of them nothing better than both is known."""
    best = sorted({(mark.x, mark.y) for mark in marks if mark.is_best})
    path = ""
    for i, (x, y) in enumerate(best):
        if not i:
            path = f"M{x:.1f} {y:.1f}"
            continue
        is_worse_first = (y < best[i - 1][1]) == is_up  # less x is better: y is kept until the next mark, then jumps
        path += f"H{x:.1f}V{y:.1f}" if is_worse_first else f"V{y:.1f}H{x:.1f}"
    return path
