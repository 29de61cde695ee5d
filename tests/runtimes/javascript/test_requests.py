"""JavaScript draws at other sizes, from pictures and steered by pictures what Python draws, and names what it does not know."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.conversion import convert
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.student import Student
from sprint_export.pictures import read_pictures
from sprint_export.prompt_reader import PromptReader
from sprint_export.runtimes.open import open_bundle
from tests.made_student import PROMPTS
from tests.runtimes.javascript.byte_fallback import write_letters
from tests.runtimes.javascript.other_tokenizer import copy_with_tokenizer
from tests.runtimes.javascript.pictures import Array, encode_bytes, give_pixels, give_png, read_picture, read_value
from tests.runtimes.javascript.programs import HERE, has_node, make_work_folder, run_in_browser, run_in_node, run_program
from tests.students.ten_scripts import list_prompts

pytestmark = pytest.mark.skipif(not has_node(), reason="node and npm are not installed")

STEPS = (1, 4)
ONE = {"threads": 1}
PROMPT = PROMPTS[0]
SHAPES = "a large cyan square right of a small cyan circle on a gray background"  # control-tiny's world
SIZES = ((64, 64), (32, 96), (96, 32))
RESIZED = (  # height and width before and after
    ((37, 50), (64, 64)),
    ((50, 37), (32, 96)),
    ((131, 200), (32, 96)),
    ((64, 300), (64, 64)),
    ((300, 64), (64, 64)),
    ((1, 1), (5, 7)),
    ((512, 384), (64, 64)),
)
CHANGED = ((0.5, "image"), (0.3, "image"), (1.0, "noise"))  # strengths, and what the steps start from
APART = {"Node": 0, "Chromium": 1}  # WebAssembly adds floats in another order
REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"height": 30}, "height=30: expected a positive multiple of 4 pixels; the nearest: 28 and 32"),
    ({"width": 0}, "width=0: expected a positive multiple of 4 pixels; the nearest: 4"),
    ({"height": 1 << 30, "width": 1 << 20}, "more than 268435456 values"),
    ({"strength": 0.5}, "says how a picture is used; give image too"),
    ({"controlScale": 1}, "give control too"),
    ({"sed": 3, "setps": 1}, "there is no option sed, setps; choose from: seed, steps, height, width, image"),
    ({"inputs": {"picture": [1]}}, "those that can be given: source_image [1,3,64,64]"),
)


def draw_noise(height: int, width: int, channels: int = 3) -> Array:
    """A picture of random pixels, where every weight of a filter counts."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)


def draw_outline() -> Array:
    """A white square's outline on black, of another size than the picture that it steers."""
    picture = np.zeros((90, 128, 3), np.uint8)
    picture[20:70, 30:90] = 255
    picture[24:66, 34:86] = 0
    return picture


@pytest.fixture(scope="module")
def folder(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_work_folder(tmp_path_factory.mktemp("requests"))
    convert(made, "onnx-fp32", folder / "several", steps=STEPS, dynamic=True, image_to_image=True, validate=False)
    convert("control-tiny", "onnx-fp32", folder / "steered", validate=False)
    write_letters(folder / "letters.json", list_prompts()[:60])
    copy_with_tokenizer(folder / "several", folder / "letters", (folder / "letters.json").read_bytes())
    return folder


@pytest.fixture(scope="module")
def jobs() -> dict[str, dict[str, Any]]:
    """By what they are about."""
    sized = [{"prompt": PROMPT, "seed": 3, "steps": 1, "height": height, "width": width} for height, width in SIZES]
    given = [give_pixels(draw_noise(64, 64)), give_pixels(draw_noise(50, 37, 4)), give_png(draw_noise(90, 128))]
    started = [{"prompt": PROMPT, "seed": 5, "steps": 4, "strength": strength, "image": given[0]} for strength, _ in CHANGED]
    started += [{"prompt": PROMPT, "seed": 5, "steps": 4, "image": picture} for picture in given[1:]]
    started.append({"prompt": PROMPT, "seed": 5, "steps": 4, "image": given[1], "height": 32, "width": 96})
    steered: list[dict[str, Any]] = [{"prompt": SHAPES, "seed": 2}]
    steered.append({"prompt": SHAPES, "seed": 2, "control": give_png(draw_outline())})
    steered.append({"prompt": SHAPES, "seed": 2, "control": give_pixels(draw_outline()), "controlScale": 0.75})
    several: dict[str, Any] = {"do": "draw", "bundle": "several", "options": ONE}
    found: dict[str, dict[str, Any]] = {
        "sized": several | {"drawings": sized},
        "started": several | {"drawings": started},
        "steered": several | {"bundle": "steered", "drawings": steered},
        "no encoder": several | {"bundle": "steered", "drawings": [{"prompt": "a", "image": given[0], "steps": 1}]},
        "no control": several | {"drawings": [{"prompt": "a", "control": given[0]}]},
        "no picture": several | {"drawings": [{"prompt": "a", "image": {"data": "", "width": 64, "height": 64}, "steps": 4}]},
        "no option": {"do": "check", "bundle": "several", "options": ONE | {"theads": 2}},
        "unknown": {"do": "unknown", "bundle": "several", "options": ONE, "prompts": list_prompts()},
        "letters": {"do": "unknown", "bundle": "letters", "options": ONE, "prompts": list_prompts()},
    }
    for place, (asked, _) in enumerate(REFUSED):
        found[f"refused {place}"] = several | {"drawings": [{"prompt": "a", **asked}]}
    for place, (before, after) in enumerate(RESIZED):
        picture = encode_bytes(draw_noise(*before))
        found[f"resize {place}"] = {"do": "resize", "data": picture, "from": before, "to": after}
    return found


@pytest.fixture(scope="module")
def in_node(folder: Path, jobs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return run_in_node(folder, list(jobs.values()))


@pytest.fixture(scope="module")
def in_page(folder: Path, jobs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_in_browser(folder, list(jobs.values()))["results"]
    return found


@pytest.fixture(params=list(APART))
def results(request: pytest.FixtureRequest, jobs: dict[str, Any]) -> dict[str, Any]:
    """Of the jobs, by what they are about, and how far apart pictures may be."""
    found = request.getfixturevalue("in_node" if request.param == "Node" else "in_page")
    return dict(zip(jobs, found, strict=True)) | {"apart": APART[request.param]}


def compare(drawn: list[dict[str, Any]], wanted: list[Array], apart: int) -> None:
    for one, picture in zip(drawn, wanted, strict=True):
        assert picture.std() > 10, "a flat picture proves nothing"
        found = read_picture(one)
        assert found.shape == picture.shape
        assert np.abs(found - picture).max() <= apart


def test_other_sizes_are_pythons(folder: Path, results: dict[str, Any]) -> None:
    pipe = open_bundle(folder / "several", steps=1)
    wanted = [pipe([PROMPT], seed=3, height=height, width=width)[0] for height, width in SIZES]
    compare(read_value(results["sized"]), wanted, results["apart"])


def test_a_start_from_a_picture_of_any_size_is_pythons(folder: Path, results: dict[str, Any]) -> None:
    pipe = open_bundle(folder / "several", steps=4)
    same, small, wide = draw_noise(64, 64), draw_noise(50, 37, 4)[..., :3].copy(), draw_noise(90, 128)
    wanted = [pipe([PROMPT], seed=5, image=same, strength=strength)[0] for strength, _ in CHANGED]
    wanted += [pipe([PROMPT], seed=5, image=picture)[0] for picture in (small, wide)]
    wanted.append(pipe([PROMPT], seed=5, image=small, height=32, width=96)[0])
    drawn = read_value(results["started"])
    compare(drawn, wanted, results["apart"])
    assert [one["startsFrom"] for one in drawn] == [name for _, name in CHANGED] + ["image"] * 3
    assert np.abs(wanted[0].astype(int) - wanted[2]).max() > 20, "the picture has a part"


def test_pictures_that_steer_are_pythons(folder: Path, results: dict[str, Any]) -> None:
    pipe = open_bundle(folder / "steered")
    wanted = [
        pipe([SHAPES], seed=2)[0],
        pipe([SHAPES], seed=2, control=draw_outline())[0],
        pipe([SHAPES], seed=2, control=draw_outline(), control_scale=0.75)[0],
    ]
    compare(read_value(results["steered"]), wanted, results["apart"])
    assert np.abs(wanted[0].astype(int) - wanted[1]).max() > 20, "it steers"


def test_pictures_are_resized_as_in_python(results: dict[str, Any]) -> None:
    for place, (before, (height, width)) in enumerate(RESIZED):
        [values] = read_pictures("picture", draw_noise(*before), 1, height, width)  # float32 [3, H, W] in [-1, 1]
        wanted = np.rint((values.transpose(1, 2, 0) + 1) * 127.5).astype(np.uint8)
        found = np.frombuffer(base64.b64decode(read_value(results[f"resize {place}"])), np.uint8).reshape(wanted.shape)
        np.testing.assert_array_equal(found, wanted, str(before))


@pytest.mark.parametrize("place", range(len(REFUSED)))
def test_what_cannot_be_drawn_is_refused_with_what_can(results: dict[str, Any], place: int) -> None:
    error = results[f"refused {place}"]["error"]
    assert error["code"] == "input" and REFUSED[place][1] in error["message"], error


def test_a_picture_that_nothing_takes_or_that_is_none_is_refused(results: dict[str, Any]) -> None:
    wanted = {
        "no control": "export a student with a ControlNet",
        "no picture": "width=64, height=64 and 0 values",
        "no option": "openBundle: there is no option theads",
    }
    for name, text in wanted.items():
        error = results[name]["error"]
        assert error["code"] == "input" and text in error["message"], error


def test_a_bundle_of_one_size_and_step_says_so(folder: Path, results: dict[str, Any]) -> None:
    """control-tiny's encoder serves its ControlNet: with one step a picture to start from has no part."""
    assert read_value(results["no encoder"])[0]["startsFrom"] == "noise"


def test_mutated_descriptions_are_refused_by_name_or_drawn_from(folder: Path) -> None:
    shutil.copy(HERE / "mutate_apps.mjs", folder)
    apps = [f"{name}/app.json" for name in ("several", "steered")]
    found = json.loads(run_program(["node", "mutate_apps.mjs", "2000", *apps], folder))
    assert found["odd"] == []
    assert found["drawn"] > 1000 and found["refused"] > 1000, "both happen"
    assert found["altered"] == ["read", "file", "read", "read"], "a folder's manifest tells of a changed letter"
    assert found["deep"] == [["app", "reference", "tokenizer"]] * 3, "what nests too deep is said by name"


@pytest.mark.parametrize("name", ["several", "letters"])
def test_unknown_words_are_pythons(folder: Path, results: dict[str, Any], name: str) -> None:
    plan = read_bundle(folder / "several").prompt
    if name == "letters":
        plan = dataclasses.replace(plan, lower=False, strips=False)
    reader = PromptReader(plan, folder / name / "tokenizer" / "tokenizer.json")
    wanted = [list(reader.list_unknown([prompt])) for prompt in list_prompts()]
    assert sum(map(len, wanted)) > 100
    assert read_value(results["unknown" if name == "several" else name]) == wanted
