"""The Pareto plot: what nothing else beats, found by trying all pairs; hostile names; points without a figure."""

from __future__ import annotations

import math
import random
from xml.etree import ElementTree

from sprint_export.validate.page.scatter import Point, Scale, find_best, render_scatter

HOSTILE = '<script>alert("1")</script> & \u202eabc'


def read_plot(points: list[Point]) -> ElementTree.Element:
    """What is drawn, as XML: it parses."""
    return ElementTree.fromstring(render_scatter(points, Scale("ms"), Scale("dB", is_more_better=True), "a title"))


def test_the_best_are_those_that_no_other_beats() -> None:
    drawn = random.Random(0)
    for _ in range(50):
        points = [Point(str(i), float(drawn.randint(0, 9)), float(drawn.randint(0, 9))) for i in range(12)]
        best = find_best(points, is_more_x=False, is_more_y=True)
        for point in points:
            beaten = any(
                other.x <= point.x and other.y >= point.y and (other.x, other.y) != (point.x, point.y)  # type: ignore[operator]
                for other in points
            )
            assert (point in best) == (not beaten)


def test_every_point_is_in_the_table_and_those_with_both_figures_are_drawn() -> None:
    points = [Point("a", 1.0, 50.0, "x"), Point("b", None, 40.0, "y", note="blank pictures"), Point("c", 2.0, math.nan, "y")]
    plot = read_plot(points)
    assert len(plot.findall(".//circle")) == 1
    rows = [" ".join("".join(row.itertext()).split()) for row in plot.findall(".//tbody/tr")]
    assert rows == ["1a 1 50 in its way", "2b blank pictures \u2013 40", "3c 2 \u2013"]


def test_without_a_point_it_is_an_empty_plot() -> None:
    assert read_plot([]).findall(".//circle") == []


def test_a_hostile_name_is_text() -> None:
    plot = read_plot([Point(HOSTILE, 1.0, 2.0, HOSTILE)])
    assert plot.findall(".//script") == []
    assert '<script>alert("1")</script> & \\u202eabc' in "".join(plot.itertext())


def test_labels_cover_no_mark_and_no_label() -> None:
    points = [Point(f"name {i}", 10.0 + i % 3, 40.0 + i / 10) for i in range(12)]
    plot = read_plot(points)
    labels = [text for text in plot.findall(".//text") if text.get("class") == "name"]
    assert 0 < len(labels) < 12, "some have room, none covers another"
    boxes = []
    for label in labels:
        x, y, width = float(label.get("x", 0)), float(label.get("y", 0)), 6.0 * len(label.text or "")
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[label.get("text-anchor", "start")]
        boxes.append((left, y - 9, left + width, y))
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
