"""Captions, scenes and the split: every caption means one scene, and validation is never trained on."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from sprint_export.students.sprint_tiny.world import (
    BACKGROUNDS,
    COLOURS,
    FORMS,
    IMAGE_SIZE,
    RADII,
    RELATIONS,
    Scene,
    Shape,
    all_scenes,
    held_out_captions,
    read_caption,
    render_scene,
    write_caption,
)
from tests.tree import ROOT

TINY = ROOT / "students" / "sprint_tiny"
SCENES = list(all_scenes())


def read_lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines() if line]


def test_all_scenes_is_the_whole_world_once() -> None:
    kinds = len(FORMS) * len(COLOURS) * len(RADII)
    ones = kinds * 5 * len(BACKGROUNDS)
    assert len(SCENES) == ones + kinds**2 * len(RELATIONS) * len(BACKGROUNDS)
    assert len(set(SCENES)) == len(SCENES)
    unordered = {(frozenset(scene.shapes), scene.background) for scene in SCENES}
    assert len(unordered) == 8316, "as the module's docstring counts, two orders of naming being one scene"


def test_every_caption_means_its_scene() -> None:
    rng = np.random.default_rng(0)
    forms = set()
    for scene in SCENES:
        caption = write_caption(scene, rng)
        assert read_caption(caption) == scene, caption
        forms.add((" and " in caption, "background" in caption, "large" in caption or "small" in caption))
    assert len(forms) == 8, "the writer must have used all its freedoms"


@pytest.mark.parametrize(
    ("caption", "scene"),
    [
        ("A  Red circle in  the center.", Scene((Shape("circle", "red", "large", "center"),), "white")),
        (
            "an small cyan square in the center, on a gray background",
            Scene((Shape("square", "cyan", "small", "center"),), "gray"),
        ),
        (
            "a blue square below a small red circle",
            Scene((Shape("square", "blue", "large", "bottom"), Shape("circle", "red", "small", "top")), "white"),
        ),
        (
            "a red circle on the left and a green triangle on the right on a black background",
            Scene((Shape("circle", "red", "large", "left"), Shape("triangle", "green", "large", "right")), "black"),
        ),
    ],
)
def test_captions_as_people_write_them(caption: str, scene: Scene) -> None:
    assert read_caption(caption) == scene


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a circle",
        "a pink circle",
        "a red hexagon",
        "two red circles",
        "a red circle over a blue square",
        "a red circle at sea",
    ],
)
def test_a_caption_outside_the_grammar_is_an_error_with_an_example(caption: str) -> None:
    with pytest.raises(ValueError, match="is not in the shapes grammar; an example of it is 'a small red circle above"):
        read_caption(caption)


def test_a_caption_without_a_place_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"'a red circle' does not say where; end it e\.g\. with 'in the center'"):
        read_caption("a red circle")


@pytest.mark.parametrize(
    "caption",
    [
        "a red circle on the left and a blue square on the left",
        "a red circle and a blue square",
        "a red circle at the top and a blue square",
    ],
)
def test_two_shapes_in_no_arrangement_are_an_error_that_lists_them(caption: str) -> None:
    with pytest.raises(ValueError, match=r"puts two shapes at .*choose from \[\('bottom', 'top'\), \('left', 'right'\)"):
        read_caption(caption)


def test_the_split_does_not_depend_on_which_shape_is_named_first() -> None:
    twos = [scene for scene in SCENES if len(scene.shapes) == 2]
    for scene in twos[:500]:
        assert dataclasses.replace(scene, shapes=scene.shapes[::-1]).is_held_out() == scene.is_held_out()
    share = np.mean([scene.is_held_out() for scene in SCENES])
    assert abs(share - 1 / 8) < 0.02, f"{share:.3f} of the scenes are held out, expected 1/8"


def test_training_never_sees_a_held_out_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ROOT / "examples" / "train_sprint_tiny"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("train_common", folder / "common.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "train_common", module)
    spec.loader.exec_module(module)
    trained = {scene for pool in module.training_scenes() for scene in pool}
    held = {scene for scene in SCENES if scene.is_held_out()}
    assert trained | held == set(SCENES)
    assert not trained & held
    _, captions, _ = module.draw_examples(64, np.random.default_rng(3))
    assert not any(read_caption(caption).is_held_out() for caption in captions)


def test_the_shipped_validation_prompts_are_all_held_out_and_the_calibration_prompts_none() -> None:
    validation, calibration = (read_lines(TINY / f"{use}_prompts.txt") for use in ("validation", "calibration"))
    assert len(validation) == 512
    assert all(read_caption(caption).is_held_out() for caption in validation)
    assert validation == held_out_captions(512)
    assert len(calibration) >= 32
    assert not any(read_caption(caption).is_held_out() for caption in calibration)


def test_held_out_captions_depend_on_their_seed_only() -> None:
    assert held_out_captions(20, seed=4) == held_out_captions(20, seed=4) != held_out_captions(20, seed=5)
    ones = np.mean([len(read_caption(caption).shapes) == 1 for caption in held_out_captions(400)])
    assert 0.18 < ones < 0.32, f"{ones:.2f} with one shape, expected about a quarter"


def test_a_rendered_shape_has_its_colour_its_box_and_its_background() -> None:
    scene = Scene((Shape("square", "green", "large", "left"),), "black")
    image = render_scene(scene, np.random.default_rng(0))
    assert image.dtype == np.uint8
    assert image.shape == (IMAGE_SIZE, IMAGE_SIZE, 3)
    assert tuple(image[32, 16]) == COLOURS["green"]
    assert tuple(image[0, 63]) == BACKGROUNDS["black"]
    columns = np.flatnonzero((image == COLOURS["green"]).all(-1).any(0))
    assert abs(np.ptp(columns) + 1 - 2 * RADII["large"]) <= 3
    assert abs(columns.mean() - 16) <= 2
