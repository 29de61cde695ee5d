"""reference/: what a bundle drew when it was finished, who can read it, and what drawing it again says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from sprint_export import check_bundle
from sprint_export.bundle_files import APP, REFERENCE, sort_contents
from sprint_export.conversion import convert
from sprint_export.errors import BundleError, InputError, MachineError
from sprint_export.export.bundle import make_artifact, read_bundle
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.runtimes import open_bundle, reference
from sprint_export.runtimes.checking import check_drawings, read_further
from sprint_export.runtimes.reference import add_reference, describe_array
from tests.app_interpreter import encode
from tests.bundles import check_refused, copy_bundle, drop_app, edit_manifest, run_command

COUNTS = (2, 1)
PROMPT = "a red circle above a blue square"


@pytest.fixture(scope="module")
def bundle(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two-layer student, two steps by default."""
    folder = tmp_path_factory.mktemp("reference") / "bundle"
    convert(tiny_student, "onnx-fp32", folder, prompts=[PROMPT], steps=COUNTS, validate=False)
    return folder


def read_drawings(folder: Path) -> Any:
    value = json.loads((folder / REFERENCE).read_text("utf-8"))
    assert value["format"] == 1
    return value["drawings"]


def test_each_step_count_is_drawn_and_everything_named(bundle: Path) -> None:
    drawings = read_drawings(bundle)
    assert [each["steps"] for each in drawings] == list(COUNTS)
    assert [each["picture"]["file"] for each in drawings] == ["reference/picture.png", "reference/picture_1.png"]
    named = {artifact.path for artifact in read_bundle(bundle).artifacts if artifact.kind == "reference"}
    assert named == {path.relative_to(bundle).as_posix() for path in (bundle / "reference").iterdir()}
    assert json.loads((bundle / APP).read_text("utf-8"))["reference"] == REFERENCE
    assert sum(path.stat().st_size for path in (bundle / "reference").iterdir()) < 120_000


@pytest.mark.parametrize("place", [0, 1])
def test_it_says_what_the_pipeline_does(bundle: Path, place: int) -> None:
    drawing = read_drawings(bundle)[place]
    steps, pipe = drawing["steps"], open_bundle(bundle, steps=drawing["steps"])
    assert (drawing["prompt"], drawing["seed"], drawing["runtime"]) == (PROMPT, 0, pipe.description)
    ids, mask = encode(bundle, json.loads((bundle / APP).read_bytes()), PROMPT)
    assert (drawing["ids"], drawing["mask"]) == (ids[0].tolist(), mask[0].tolist())
    noise = make_noise(0, steps, 1, pipe.latent_shape)
    assert drawing["noise"]["sha256"] == hashlib.sha256(noise.tobytes()).hexdigest()
    wanted = pipe([PROMPT], seed=0)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(bundle / drawing["picture"]["file"])), wanted)
    assert drawing["picture"]["sha256"] == hashlib.sha256(wanted.tobytes()).hexdigest()
    assert drawing["picture"]["size"] == list(wanted.shape[:2])
    ran = [(stage["network"], stage.get("step")) for stage in drawing["stages"]]
    assert ran == [("text_encoder", None), *(("transformer", i) for i in range(steps)), ("vae_decoder", None)]


def test_short_arrays_lie_beside_it(bundle: Path) -> None:
    values, drawings = load_file(bundle / "reference" / "values.safetensors"), read_drawings(bundle)
    assert {"ids", "mask", "noise.1", "noise.2", "2.1.denoised", "2.2.denoised", "1.1.denoised"} <= set(values)
    for drawing in drawings:
        for i, stage in enumerate(drawing["stages"]):
            for name, said in stage["outputs"].items():
                if f"{drawing['steps']}.{i}.{name}" in values:
                    assert describe_array(values[f"{drawing['steps']}.{i}.{name}"]) == said


def test_drawn_again_it_is_the_same(bundle: Path) -> None:
    checks = check_bundle(bundle)
    assert [(each.steps, each.largest, each.mean, each.begins, each.passed) for each in checks] == [
        (2, 0, 0.0, "", True),
        (1, 0, 0.0, "", True),
    ]
    done = run_command("check", bundle, folder=bundle.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the reference's picture, bit for bit") == 2


def test_small_pictures_have_further_prompts(tiny_student: Student, bundle: Path, tmp_path: Path) -> None:
    """At the default number of steps, each with a seed of its own; `check` draws the first prompt alone."""
    folder = drop_app(copy_bundle(bundle, tmp_path / "bundle"))
    edit_manifest(folder, lambda v: v.update(artifacts=[a for a in v["artifacts"] if a["kind"] != "reference"]))
    others = [f"a {colour} circle" for colour in ("red", "green", "blue", "red", "cyan")]
    add_reference(read_bundle(folder), PROMPT, further=[PROMPT, *others])
    found = read_further(read_bundle(folder))
    wanted = list(dict.fromkeys(others))
    assert [(each["prompt"], each["seed"], each["steps"]) for each in found] == [(p, i + 1, 2) for i, p in enumerate(wanted)]
    assert [each["picture"]["file"] for each in found] == [f"reference/further_{i + 1}.png" for i in range(4)]
    pipe = open_bundle(folder)
    wanted_picture = pipe([wanted[1]], seed=2)[0]
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "reference" / "further_2.png")), wanted_picture)
    assert not sort_contents(folder).foreign
    checks = [check for check, _ in check_drawings(read_bundle(folder), pipe, found)]
    assert [(each.largest, each.psnr_db, each.begins, each.prompt) for each in checks] == [(0, 100.0, "", p) for p in wanted]
    assert all(stage.is_same and stage.error == 0 for each in checks for stage in each.stages)
    assert len(check_bundle(folder)) == len(COUNTS)


def test_the_stage_that_differs_is_said_with_how_far(bundle: Path, tmp_path: Path) -> None:
    folder = copy_bundle(bundle, tmp_path / "bundle")

    def change(value: Any) -> None:
        output = value["drawings"][0]["stages"][1]["outputs"]["denoised"]
        output.update(sha256="0" * 64, first=[output["first"][0] + 0.5 * output["std"], *output["first"][1:]])

    alter(folder, change)
    stages = check_bundle(folder)[0].stages
    assert [(stage.network, stage.step, stage.is_same) for stage in stages] == [
        ("text_encoder", None, True),
        ("transformer", 0, False),
        ("transformer", 1, True),
        ("vae_decoder", None, True),
    ]
    assert stages[1].error == pytest.approx(0.5) and stages[0].error == 0


def sign(folder: Path) -> None:
    """All files as they are now."""
    drop_app(folder)

    def change(value: Any) -> None:
        for entry in value["artifacts"]:
            made = make_artifact(folder, folder / entry["path"], "", "", "")
            entry.update(bytes=made.bytes, sha256=made.sha256)

    edit_manifest(folder, change)


def alter(folder: Path, change: Callable[[Any], object]) -> None:
    value = json.loads((folder / REFERENCE).read_text("utf-8"))
    change(value)
    (folder / REFERENCE).write_text(json.dumps(value), "utf-8")
    sign(folder)


def test_another_picture_is_said_with_where_it_begins(bundle: Path, tmp_path: Path) -> None:
    """As if other kernels had drawn it: other values from the transformer's second step on, a pixel 5 apart."""
    folder = copy_bundle(bundle, tmp_path / "bundle")
    drawing = read_drawings(folder)[0]
    pixels = np.asarray(Image.open(folder / drawing["picture"]["file"])).copy()
    pixels[3, 4, 1] = pixels[3, 4, 1] - 5 if pixels[3, 4, 1] > 100 else pixels[3, 4, 1] + 5
    Image.fromarray(pixels).save(folder / drawing["picture"]["file"])

    def change(value: Any) -> None:
        value["drawings"][0]["stages"][2]["outputs"]["denoised"]["sha256"] = "0" * 64
        value["drawings"][0]["picture"]["sha256"] = hashlib.sha256(pixels.tobytes()).hexdigest()
        value["drawings"][0]["runtime"] = "another engine"

    alter(folder, change)
    first, second = check_bundle(folder)
    assert (first.largest, first.begins, first.before, first.passed) == (5, "transformer in step 2", "another engine", False)
    assert second.passed and not second.begins
    assert all(each.passed for each in check_bundle(folder, tolerance=5))
    done = run_command("check", folder, folder=tmp_path)
    assert done.returncode == 1
    assert "at most 5 of 255 from the reference's picture" in done.stdout
    assert "other values from transformer in step 2 on; the reference was drawn by another engine" in done.stdout
    assert "not the reference's pictures, within 2 of 255: 2 step(s)" in done.stderr


@pytest.mark.parametrize("name", ["ids", "mask"])
def test_other_ids_are_never_within_a_tolerance(bundle: Path, tmp_path: Path, name: str) -> None:
    folder = copy_bundle(bundle, tmp_path / "bundle")
    alter(folder, lambda value: value["drawings"][1][name].append(1))
    check = check_bundle(folder, tolerance=255)[1]
    assert (check.begins, check.passed) == (name, False)


DAMAGE: dict[str, Callable[[Any], object]] = {
    "another format": lambda value: value.update(format=2),
    "no drawings": lambda value: value.update(drawings=[]),
    "many further ones": lambda value: value.update(further=value["drawings"] * 5),
    "a further one that is none": lambda value: value.update(further=[3]),
    "a value that is no number": lambda value: next(iter(value["drawings"][0]["stages"][0]["outputs"].values())).update(std="x"),
    "many drawings": lambda value: value.update(drawings=value["drawings"] * 3),
    "drawings of another type": lambda value: value.update(drawings=3),
    "a prompt that is none": lambda value: value["drawings"][0].update(prompt=3),
    "no seed": lambda value: value["drawings"][0].pop("seed"),
    "no picture": lambda value: value["drawings"][0].pop("picture"),
    "a picture that is none": lambda value: value["drawings"][0].update(picture={"file": 3, "sha256": ""}),
    "a stage without a network": lambda value: value["drawings"][0]["stages"][0].pop("network"),
    "a stage without outputs": lambda value: value["drawings"][0]["stages"][0].pop("outputs"),
    "another digest of the picture": lambda value: value["drawings"][0]["picture"].update(sha256="0" * 64),
    "a picture elsewhere": lambda value: value["drawings"][0]["picture"].update(file="../outside.png"),
    "a file that is no picture": lambda value: value["drawings"][0]["picture"].update(file=REFERENCE),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_one_is_one_line(bundle: Path, tmp_path: Path, case: str) -> None:
    folder = copy_bundle(bundle, tmp_path / "bundle")
    alter(folder, DAMAGE[case])
    with pytest.raises(BundleError):
        check_bundle(folder)


def test_what_cannot_be_asked_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tolerance=256: expected 0 to 255"):
        check_bundle(bundle, tolerance=256)
    folder = drop_app(copy_bundle(bundle, tmp_path / "bundle"))
    edit_manifest(folder, lambda v: v.update(artifacts=[a for a in v["artifacts"] if a["kind"] != "reference"]))
    check_refused(run_command("check", folder, folder=tmp_path), 2, f"has no {REFERENCE}")
    alter(folder := copy_bundle(bundle, tmp_path / "other"), lambda value: value["drawings"][0].update(steps=3))
    with pytest.raises(InputError, match="unknown number of steps '3'"):
        check_bundle(folder)


def test_large_pictures_are_drawn_at_the_default_steps_alone(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without values beside them; a second call draws nothing."""
    folder = drop_app(copy_bundle(bundle, tmp_path / "bundle"))
    edit_manifest(folder, lambda v: v.update(artifacts=[a for a in v["artifacts"] if a["kind"] != "reference"]))
    monkeypatch.setattr(reference, "SMALL_PIXELS", 100)
    added = add_reference(read_bundle(folder), PROMPT)
    assert [each["steps"] for each in read_drawings(folder)] == [2]
    files = {artifact.path for artifact in added.artifacts if artifact.kind == "reference"}
    assert files == {REFERENCE, "reference/picture.png"}
    assert read_bundle(folder) == added
    monkeypatch.setattr(reference, "track_drawings", None)
    assert add_reference(added, PROMPT) == added


def test_where_nothing_can_run_it_that_is_said(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = drop_app(copy_bundle(bundle, tmp_path / "bundle"))
    edit_manifest(folder, lambda v: v.update(artifacts=[a for a in v["artifacts"] if a["kind"] != "reference"]))

    def refuse(*asked: object) -> str:
        raise MachineError("trt cannot run here: no GPU")

    monkeypatch.setattr(reference, "choose_runtime", refuse)
    said: list[str] = []
    found = read_bundle(folder)
    assert add_reference(found, say=said.append) == found
    assert said == ["no reference picture was drawn: trt cannot run here: no GPU"]


def test_a_part_of_a_student_has_none(bundle: Path) -> None:
    whole = read_bundle(bundle)
    part = dataclasses.replace(
        whole, components=whole.components[:1], artifacts=tuple(a for a in whole.artifacts if a.kind != "reference")
    )
    assert add_reference(part) == part
