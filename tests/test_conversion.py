"""`convert` in process: what is refused before any work, what an interrupted run leaves, what a second run takes over."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sprint_export.conversion import convert, keep_components
from sprint_export.devices import find_device
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.student import Student
from sprint_export.run_checks import list_targets, parse_target
from sprint_export.runtimes.trt import target as trt_target
from sprint_export.runtimes.trt.target import TrtTarget
from tests.bundles import copy_bundle, list_files

PAIR = ("text_encoder", "vae_decoder")
ONE = ("vae_decoder",)


@pytest.fixture(scope="module")
def made_bundle(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One float component of a two-layer student."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    convert(tiny_student, "onnx-fp32", folder, components=ONE)
    return folder


def test_every_listed_target_parses_to_itself() -> None:
    assert {"onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-fp8", "trt-bf16", "trt-int8", "trt-fp8"} <= set(list_targets())
    for text in list_targets():
        target, precision = parse_target(text)
        assert f"{target.name}-{precision}" == text


@pytest.mark.parametrize(
    "text", ["", "trt", "fp8", "trt-", "-fp8", "trt-fp32", "tensorrt-fp8", "TRT-FP8", "trt-fp8-x", "../x-fp8"]
)
def test_an_unknown_target_lists_the_pairs(text: str) -> None:
    listed = ", ".join(sorted(list_targets()))
    with pytest.raises(InputError, match=re.escape(f"unknown target {text!r}; choose from: {listed}")):
        parse_target(text)


def test_core_ml_in_fp8_is_refused_with_the_reason_and_the_nearest() -> None:
    with pytest.raises(RefusedError, match=r"coreml-fp8: Core ML has no FP8 type .*nearest are coreml-w8a8 .*coreai-fp8"):
        parse_target("coreml-fp8")


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        ({"target": "trt-fp9"}, InputError, "unknown target 'trt-fp9'"),
        ({"device": "rtx-9090"}, InputError, "unknown device 'rtx-9090'; choose from: core-ultra-7-258v, cpu, "),
        ({"device": "rtx-3090"}, RefusedError, "trt-fp8 --device rtx-3090: FP8 needs compute capability 8.9 or newer; "),
        ({"options": {"builder": "trtexec"}}, InputError, "unknown builder 'trtexec'; choose from: tensorrt, tensorrt-rtx"),
        ({"options": {"builder": "tensorrt"}}, MachineError, "builder 'tensorrt' builds only on the GPU it builds for"),
        ({"gates": ["psnr_db is 30"]}, InputError, "gate 'psnr_db is 30' is not of the form"),
        ({"count": 0}, InputError, "count=0: expected at least one prompt"),
        ({"steps": 9}, InputError, "steps=9: distilled students take 1 to 4 steps"),
        ({"steps": 0}, InputError, "steps=0: distilled students take 1 to 4 steps"),
        (
            {"components": ["unet"]},
            InputError,
            "unknown component 'unet'; choose from: controlnet, text_encoder, transformer, vae_decoder",
        ),
        (
            {"components": []},
            InputError,
            "no component chosen; choose from: text_encoder, vae_encoder, controlnet, transformer, vae_decoder",
        ),
        ({"prompts": []}, InputError, "calibration needs prompts and got none"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_input_is_refused_and_nothing_is_written(
    tiny_student: Student,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    named: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(trt_target, "find_gpus", tuple)
    options = {"target": "trt-fp8", "components": ONE, **named}
    with pytest.raises(error, match=re.escape(message)):
        convert(tiny_student, out=tmp_path / "out", **options)  # type: ignore[arg-type]  # one wrong argument at a time
    assert list(tmp_path.iterdir()) == []


def test_the_kept_components_are_those_asked_for(tiny_student: Student) -> None:
    kept = keep_components(tiny_student, ["vae_decoder", "text_encoder"])
    assert tuple(kept.components) == PAIR, "in the order a picture passes through them"
    assert len(tiny_student.components) == 3, "the input stays as it was"


def test_a_name_too_long_for_the_disk_is_the_users_mistake(tiny_student: Student, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write to .*\(File name too long\); choose another --out"):
        convert(tiny_student, "onnx-fp32", tmp_path / ("x" * 300), components=ONE)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_lies_alone_at_out(made_bundle: Path) -> None:
    assert [path.name for path in made_bundle.parent.iterdir()] == ["bundle"]
    bundle = read_bundle(made_bundle)
    assert [record.role for record in bundle.components] == ["vae_decoder"]
    assert not [name for name in list_files(made_bundle) if "part" in name or name == "key"]


def test_the_same_inputs_are_not_made_twice(tiny_student: Student, made_bundle: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made_bundle.rglob("*")}
    said: list[str] = []
    convert(tiny_student, "onnx-fp32", made_bundle, components=ONE, say=said.append)
    assert f"{made_bundle} was made from the same inputs; nothing to do but validate it" in said
    assert {path: path.stat().st_mtime_ns for path in made_bundle.rglob("*")} == before


def test_other_inputs_need_overwrite(tiny_student: Student, made_bundle: Path, tmp_path: Path) -> None:
    folder = copy_bundle(made_bundle, tmp_path / "bundle")
    manifest = (folder / "bundle.json").read_bytes()
    with pytest.raises(InputError, match="holds a bundle made from other inputs; choose another --out, or --overwrite it"):
        convert(tiny_student, "onnx-fp32", folder, components=ONE, guidance=7.0)
    assert (folder / "bundle.json").read_bytes() == manifest
    made = convert(tiny_student, "onnx-fp32", folder, components=ONE, guidance=7.0, overwrite=True)
    assert made.plan.guidance == read_bundle(folder).plan.guidance == 7.0
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_overwrite_does_not_delete_what_is_no_bundle(tiny_student: Student, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds files but no bundle\.json"):
        convert(tiny_student, "onnx-fp32", tmp_path, components=ONE, overwrite=True)
    assert list_files(tmp_path) == {"thesis.txt"}


def test_a_damaged_bundle_says_so_and_can_be_replaced(tiny_student: Student, made_bundle: Path, tmp_path: Path) -> None:
    folder = copy_bundle(made_bundle, tmp_path / "bundle")
    data = folder / "vae_decoder" / "model.onnx.data"
    whole = data.read_bytes()
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"model\.onnx\.data was altered: .*; to replace it, add --overwrite"):
        convert(tiny_student, "onnx-fp32", folder, components=ONE)
    convert(tiny_student, "onnx-fp32", folder, components=ONE, overwrite=True)
    assert data.read_bytes() == whole, "the same inputs give the same bytes"
    read_bundle(folder)


def test_a_run_stopped_while_building_keeps_its_graphs_and_engines(
    tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorrt_rtx")
    out, work, build = tmp_path / "out", tmp_path / ".out.partial" / "bundle", TrtTarget.build
    student = dataclasses.replace(tiny_student, calibration_prompts=("a red circle",))
    built: list[str] = []

    def stop_at_the_second(target: TrtTarget, graph: Path, *rest: Any) -> Mapping[str, Path]:
        built.append(graph.parent.name)
        if len(built) == 2:
            raise KeyboardInterrupt
        return build(target, graph, *rest)

    monkeypatch.setattr(TrtTarget, "build", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        convert(student, "trt-int8", out, components=PAIR)
    assert built == list(PAIR)
    assert not out.exists()
    finished = {path.relative_to(work): path.stat().st_mtime_ns for path in work.rglob("model.*")}
    assert {str(path) for path in finished} >= {"text_encoder/model.sm89.engine", "vae_decoder/model.onnx"}
    convert(student, "trt-int8", out, components=PAIR)
    assert built == [*PAIR, "vae_decoder"], "the first engine was built twice"
    assert {path: (out / path).stat().st_mtime_ns for path in finished} == finished
    assert {(a.kind, a.device) for a in read_bundle(out).artifacts if a.role == "text_encoder"} >= {
        ("engine", "rtx-4090"),
        ("kernels", "rtx-4090"),
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_another_recipe_left_behind_is_not_taken_over(tiny_student: Student, tmp_path: Path, made_bundle: Path) -> None:
    work = tmp_path / ".out.partial"
    shutil.copytree(made_bundle, work / "bundle")
    (work / "key").write_text("another")
    data = work / "bundle" / "vae_decoder" / "model.onnx.data"
    data.write_bytes(bytes(data.stat().st_size))
    convert(tiny_student, "onnx-fp32", tmp_path / "out", components=ONE)
    assert (tmp_path / "out" / "vae_decoder" / "model.onnx.data").read_bytes() == (
        made_bundle / "vae_decoder" / "model.onnx.data"
    ).read_bytes()


def test_a_bundle_without_all_networks_is_not_validated_and_that_is_said(tiny_student: Student, tmp_path: Path) -> None:
    said: list[str] = []
    bundle = convert(tiny_student, "onnx-fp32", tmp_path / "out", components=ONE, say=said.append)
    assert "not validated: without all networks there is no picture to compare" in said
    assert not (bundle.folder / "report.json").exists()
    assert bundle.device == find_device("cpu").name
