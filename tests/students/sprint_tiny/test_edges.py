"""Edges of shapes, and whether a picture obeys them."""

from __future__ import annotations

import numpy as np
import pytest

from sprint_export.students.sprint_tiny.adherence import measure_adherence
from sprint_export.students.sprint_tiny.edges import FAR, OBEYED, find_edges, measure_distance, measure_edges
from sprint_export.students.sprint_tiny.judge import JUDGE
from sprint_export.students.sprint_tiny.world import PLACES, RADII, held_out_captions, paint_scene, read_caption, render_moved
from sprint_export.validate.judging import judge_pictures

CIRCLE = read_caption("a red circle in the center")


def draw(x: float, y: float) -> np.ndarray:
    return paint_scene(CIRCLE, [(x, y, 13.0)])


@pytest.mark.parametrize("off", [0.0, 1.0, 2.0, 4.0])
def test_the_distance_is_how_far_an_outline_is_off(off: float) -> None:
    """A circle moved sideways: its outline is off by |cos| times that, 2 / pi on average; less where another part is nearer."""
    found = measure_distance(find_edges(draw(32 + off, 32)), find_edges(draw(32, 32)))
    assert abs(found - 2 / np.pi * 0.75 * off) <= 0.3, f"{found:.2f} px for a circle moved by {off} px"


def test_no_edge_is_far_from_one() -> None:
    empty = find_edges(paint_scene(read_caption("a red circle in the center"), [(1000.0, 0.0, 1.0)]))
    assert not empty.any()
    assert measure_distance(empty, empty) == 0
    assert measure_distance(empty, find_edges(draw(32, 32))) == FAR


def test_moved_pictures_show_their_caption_where_it_does_not_say() -> None:
    captions, rng = held_out_captions(200), np.random.default_rng(0)
    pictures = [render_moved(read_caption(caption), rng) for caption in captions]
    assert measure_adherence(captions, pictures).everything >= 0.995
    controls = [find_edges(picture) for picture in pictures]
    assert measure_edges(pictures, controls).obeyed == 1
    scenes = [read_caption(caption) for caption in captions]
    places = [[(*map(float, PLACES[shape.place]), RADII[shape.size]) for shape in scene.shapes] for scene in scenes]
    usual = [paint_scene(*each) for each in zip(scenes, places, strict=True)]  # type: ignore[arg-type]  # a star has no length
    match = measure_edges(usual, controls)
    assert match.obeyed <= 0.15, f"{match.obeyed:.0%} of pictures obey edges that they were not drawn from"
    assert match.distance > OBEYED


def test_the_judge_draws_what_steers_and_says_whether_it_was_obeyed() -> None:
    captions = held_out_captions(8)
    scenes = [read_caption(caption) for caption in captions]
    drawn = np.stack([render_moved(scene, np.random.default_rng(i)) for i, scene in enumerate(scenes)])
    assert np.array_equal(JUDGE.draw_controls(captions), np.stack([find_edges(picture) for picture in drawn]))
    other = np.stack([render_moved(scene, np.random.default_rng(99)) for scene in scenes])
    plain, steered = (judge_pictures(captions, drawn, other, is_steered).rows for is_steered in (False, True))
    rows = {row.metric: row.value for row in steered}
    assert rows["edges_obeyed_percent"] == 100
    assert rows["edges_obeyed_reference_percent"] < 50
    assert tuple(rows) == JUDGE.metrics[-3:]
    assert [row.metric for row in plain] == ["flips"]
