"""The detector: exact on rendered pictures, and wrong about one thing when one thing is wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sprint_export.students.sprint_tiny.adherence import Adherence, count_flips, detect_scene, measure_adherence
from sprint_export.students.sprint_tiny.world import PLACES, Scene, Shape, all_scenes, read_caption, render_scene, write_caption

MAX_ERROR = 0.005  # of rendered pictures; the figures in a report are no better than this
CAPTION = "a small red circle on the left and a large blue square on the right on a gray background"
PARTS = ("count", "form", "colour", "size", "place", "background")


def draw(scene: Scene, seed: int = 0) -> npt.NDArray[np.uint8]:
    return render_scene(scene, np.random.default_rng(seed))


def change(index: int, **parts: str) -> Scene:
    """The caption's scene with one shape changed."""
    scene = read_caption(CAPTION)
    shapes = list(scene.shapes)
    shapes[index] = dataclasses.replace(shapes[index], **parts)
    return dataclasses.replace(scene, shapes=tuple(shapes))


def wrong_parts(caption: str, image: npt.NDArray[np.uint8]) -> set[str]:
    score = measure_adherence([caption], [image])
    wrong = {part for part in PARTS if getattr(score, part) != 1.0}
    assert (score.everything == 1.0) == (not wrong)
    return wrong


def test_the_error_on_rendered_pictures_is_within_the_promise() -> None:
    rng = np.random.default_rng(7)
    scenes = list(all_scenes())
    chosen = [scenes[i] for i in rng.choice(len(scenes), 2400, replace=False)]
    captions = [write_caption(scene, rng) for scene in chosen]
    score = measure_adherence(captions, [render_scene(scene, rng) for scene in chosen])
    assert score.pictures == 2400
    assert score.everything >= 1 - MAX_ERROR, f"error {1 - score.everything:.4f}, promised {MAX_ERROR}"


def test_every_single_shape_is_read_back_as_it_was_drawn() -> None:
    singles = [scene for scene in all_scenes() if len(scene.shapes) == 1]
    missed = [scene for scene in singles if detect_scene(draw(scene)) != scene]
    assert len(missed) <= MAX_ERROR * len(singles), missed


@pytest.mark.parametrize(
    ("scene", "wrong"),
    [
        (read_caption(CAPTION), set()),
        (change(0, colour="green"), {"colour"}),
        (change(1, form="triangle"), {"form"}),
        (change(0, form="square"), {"form"}),
        (change(0, size="large"), {"size"}),
        (change(1, size="small"), {"size"}),
        (dataclasses.replace(read_caption(CAPTION), background="black"), {"background"}),
        (dataclasses.replace(read_caption(CAPTION), shapes=read_caption(CAPTION).shapes[:1]), set(PARTS) - {"background"}),
    ],
    ids=["right", "colour", "form", "other form", "larger", "smaller", "background", "one shape missing"],
)
def test_one_wrong_attribute_is_the_one_found(scene: Scene, wrong: set[str]) -> None:
    assert wrong_parts(CAPTION, draw(scene)) == wrong


def test_colours_bound_to_the_wrong_shape_are_wrong() -> None:
    first, second = read_caption(CAPTION).shapes
    swapped = (dataclasses.replace(first, colour=second.colour), dataclasses.replace(second, colour=first.colour))
    assert wrong_parts(CAPTION, draw(Scene(swapped, "gray"))) == {"colour"}


def test_shapes_that_changed_places_are_wrong_in_all_they_carry() -> None:
    first, second = read_caption(CAPTION).shapes
    moved = (dataclasses.replace(first, place="right"), dataclasses.replace(second, place="left"))
    assert wrong_parts(CAPTION, draw(Scene(moved, "gray"))) == {"form", "colour", "size"}


@pytest.mark.parametrize("place", sorted(set(PLACES) - {"center"}))
def test_a_moved_shape_is_wrong_in_place_only(place: str) -> None:
    scene = Scene((Shape("triangle", "purple", "small", place),), "white")
    assert wrong_parts("a small purple triangle in the center", draw(scene)) == {"place"}


def test_a_third_shape_is_wrong() -> None:
    caption = "a small red circle on the left and a small blue square on the right on a gray background"
    more = Scene((*read_caption(caption).shapes, Shape("circle", "yellow", "small", "top")), "gray")
    assert wrong_parts(caption, draw(more)) == set(PARTS) - {"background"}


@pytest.mark.parametrize("colour", ["yellow", "purple", "cyan", "green"])
def test_a_third_shape_that_touches_another_is_wrong(colour: str) -> None:
    """The two are one connected component; its median colour alone would pass for the wanted shape."""
    more = Scene((*read_caption(CAPTION).shapes, Shape("circle", colour, "small", "top")), "gray")
    assert measure_adherence([CAPTION], [draw(more)]).everything == 0


def test_a_picture_without_a_shape_is_wrong_in_all() -> None:
    blank = np.full((64, 64, 3), 245, np.uint8)
    assert detect_scene(blank) is None
    assert wrong_parts("a red circle on the left", blank) == set(PARTS)


def test_noise_is_no_scene() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert wrong_parts(CAPTION, noise) >= {"count"}


def test_a_blurred_and_noisy_picture_is_still_read() -> None:
    """A decoder softens edges; the detector must not call that another form."""
    from scipy import ndimage

    rng = np.random.default_rng(1)
    scenes = [scene for scene in all_scenes() if len(scene.shapes) == 2]
    chosen = [scenes[i] for i in rng.choice(len(scenes), 300, replace=False)]
    images = []
    for scene in chosen:
        soft: Any = ndimage.gaussian_filter(render_scene(scene, rng).astype(np.float64), (0.7, 0.7, 0))
        images.append(np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8))
    score = measure_adherence([write_caption(scene, rng) for scene in chosen], images)
    assert score.everything >= 0.97, score


def test_shares_are_means_over_pictures() -> None:
    right, wrong = draw(read_caption(CAPTION)), draw(change(0, colour="green"))
    expected = Adherence(0.75, count=1.0, form=1.0, colour=0.75, size=1.0, place=1.0, background=1.0, pictures=4)
    assert measure_adherence([CAPTION] * 4, [right, right, wrong, right]) == expected


def test_captions_and_pictures_must_belong_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        measure_adherence([CAPTION, CAPTION], [draw(read_caption(CAPTION))])
    with pytest.raises(ValueError, match="is not in the shapes grammar"):
        measure_adherence(["a dog"], [draw(read_caption(CAPTION))])


def test_a_flip_is_another_scene_whether_right_or_wrong() -> None:
    """Right to wrong, wrong to right and wrong to otherwise wrong are flips; another blur of the same scene is none."""
    right, green, large = draw(read_caption(CAPTION)), draw(change(0, colour="green")), draw(change(0, size="large"))
    noisy = np.clip(right.astype(np.int16) + 3, 0, 255).astype(np.uint8)
    nothing = np.zeros_like(right)
    assert count_flips([right, green, large, noisy, nothing], [right, right, green, right, nothing]) == 2
    with pytest.raises(ValueError, match="shorter"):
        count_flips([right], [])
