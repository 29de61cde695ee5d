"""export_student: a work folder beside the output that a killed run is taken up in, and a bundle that reads back."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from sprint_export.devices import find_device
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.export import bundle, export_student
from sprint_export.export.bundle import find_artifact, read_bundle
from sprint_export.export.reading import count_stored
from sprint_export.export.student import bundle_key
from sprint_export.export.to_onnx import writer as to_onnx
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.progress import Step
from sprint_export.quantize.mend.edits import EDITS_FILE, edit_component, read_edits
from sprint_export.registry import load_target
from tests.export.to_onnx.graphs import quantize_small, small_component

Usage = namedtuple("Usage", ("total", "used", "free"))
ONNX: Target = load_target("onnx")
CPU = find_device("cpu")
FP32 = Deployment(ONNX, "fp32", CPU)


@pytest.fixture
def student(tiny_special: Student, monkeypatch: pytest.MonkeyPatch) -> Student:
    """Two components that are captured in a second; their inputs are not those of networks, which a manifest is checked for."""
    monkeypatch.setattr(bundle, "check_manifest", lambda bundle: None)
    components = {role: dataclasses.replace(small_component(), role=role) for role in ("transformer", "vae_decoder")}
    return dataclasses.replace(tiny_special, components=components)


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Roles whose graph was made, in order."""
    roles: list[str] = []
    original = to_onnx.capture_graph

    def capture_graph(component: Any, dtype: str) -> Any:
        roles.append(component.role)
        return original(component, dtype)

    monkeypatch.setattr(to_onnx, "capture_graph", capture_graph)
    return roles


def export(student: Student, out: Path, precision: str = "fp32") -> Bundle:
    return export_student(student, Deployment(ONNX, precision, CPU), out)


def kill_while_writing(count: int, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """The `count`-th graph is half written when the end comes."""
    written: list[Path] = []
    original = to_onnx.write_graph

    def write_graph(model: Any, path: Path) -> None:
        written.append(path)
        if len(written) == count:
            path.write_bytes(b"half a graph")
            raise error
        original(model, path)

    monkeypatch.setattr(to_onnx, "write_graph", write_graph)


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_reads_back_and_holds_what_its_manifest_names_and_no_more(student: Student, tmp_path: Path) -> None:
    told: list[tuple[Step, int, int]] = []
    bundle = export_student(student, FP32, tmp_path / "out", lambda *event: told.append(event))
    assert read_bundle(bundle.folder) == bundle
    assert not (tmp_path / "out").exists(), "a later stage renames the work folder"
    assert {
        "bundle.json",
        "tokenizer/tokenizer.json",
        "transformer/model.onnx",
        "transformer/model.onnx.data",
        "transformer/config.json",
        "vae_decoder/model.onnx",
    } <= files_under(bundle.folder)
    named = {artifact.path for artifact in bundle.artifacts}
    own = {"bundle.json"}
    assert files_under(bundle.folder) - own == named
    assert {(a.role, a.kind) for a in bundle.artifacts} == {
        *((role, kind) for role in ("transformer", "vae_decoder") for kind in ("graph", "weights", "config")),
        ("tokenizer", "tokenizer"),
    }
    assert [record.role for record in bundle.components] == ["transformer", "vae_decoder"]
    assert bundle.components[0].precision_counts["FLOAT"] > 5000
    assert (bundle.target, bundle.precision, bundle.device, bundle.plan) == ("onnx", "fp32", "cpu", student.plan)
    assert bundle.runtimes == {"onnxruntime": "1.21.0"}
    sizes = [sum(handle.load().nbytes for handle in component.weights.values()) for component in student.components.values()]
    steps = {step: (done, total) for step, done, total in reversed(told)}  # the first of each
    assert steps == {
        Step("exporting", "transformer"): (0, sum(sizes)),
        Step("exporting", "vae_decoder"): (sizes[0], sum(sizes)),
        Step("exporting"): (sum(sizes), sum(sizes)),
    }
    done = [done for _, done, _ in told]
    assert done == sorted(done), "bytes of weights, each counted once"
    assert len(set(done)) > 20
    assert all(version != "absent" for name, version in bundle.tools.items() if name in ("torch", "onnx", "onnx-ir"))


def test_room_on_the_disk_is_looked_for_before_anything_is_written(
    student: Student, tmp_path: Path, captured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the networks that are still to be written."""
    component = student.components["transformer"]
    stored = count_stored(component, {}, 4)
    assert stored == sum(handle.load().nbytes for handle in component.weights.values())
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: Usage(1, 0, 2 * stored - 1))
        with pytest.raises(
            MachineError, match=r"transformer, vae_decoder as onnx-fp32 will take more than \d MB, found \d MB free"
        ):
            export(student, tmp_path / "out")
        assert captured == []
        patch.setattr("shutil.disk_usage", lambda _: Usage(1, 0, 2 * stored))
        kill_while_writing(2, patch, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            export(student, tmp_path / "out")
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1, 0, stored))
    export(student, tmp_path / "out")


def test_a_killed_run_is_taken_up_where_it_stopped(student: Student, tmp_path: Path, captured: list[str]) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        kill_while_writing(2, patch, KeyboardInterrupt())
        export(student, out)
    assert captured == ["transformer", "vae_decoder"]
    assert not out.exists(), "nothing half-written where the bundle will be"
    work = tmp_path / ".out.partial" / "bundle"
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    assert not (work / "vae_decoder").exists(), "a folder has its name only when it is whole"
    first = (work / "transformer" / "model.onnx").stat()
    captured.clear()
    bundle = export(student, out)
    assert captured == ["vae_decoder"], "the finished component is taken over"
    assert (bundle.folder / "transformer" / "model.onnx").stat().st_mtime_ns == first.st_mtime_ns
    assert read_bundle(bundle.folder) == bundle
    assert {path.name for path in work.parent.iterdir()} == {"bundle", "records", "key"}, "no remains of the killed run"
    whole = export(student, tmp_path / "other")
    assert {a.path: a.sha256 for a in whole.artifacts} == {a.path: a.sha256 for a in bundle.artifacts}


def test_a_component_that_lost_a_file_is_made_again(student: Student, tmp_path: Path, captured: list[str]) -> None:
    bundle = export(student, tmp_path / "out")
    (bundle.folder / "transformer" / "model.onnx.data").unlink()
    (bundle.folder.parent / "records" / "vae_decoder.json").write_text("{")
    captured.clear()
    assert read_bundle(export(student, tmp_path / "out").folder) == bundle
    assert captured == ["transformer", "vae_decoder"]


def test_what_another_run_left_is_not_mixed_in(student: Student, tmp_path: Path, captured: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(MachineError, match="the disk is full"):
        kill_while_writing(2, patch, OSError(28, "No space left on device"))
        export(student, tmp_path / "out")
    captured.clear()
    bundle = export(student, tmp_path / "out", "fp16")
    assert captured == ["transformer", "vae_decoder"]
    assert "FLOAT16" in bundle.components[0].precision_counts
    shadows = [artifact.path for artifact in bundle.artifacts if artifact.kind == "shadow"]
    assert not shadows, "this target's own runtime runs the graph itself"


def test_the_key_covers_all_that_decides_the_bytes(student: Student) -> None:
    layers = dataclasses.replace(quantize_small("w8a8", "fp32", 0), role="vae_decoder")
    assert student.plan is not None
    changed = {
        "weights": dataclasses.replace(student, fingerprint="other"),
        "plan": dataclasses.replace(student, plan=dataclasses.replace(student.plan, guidance=1.0)),
        "recipe": dataclasses.replace(student, recipe=Recipe("r", (Rule("*", "int8"),))),
        "layers": dataclasses.replace(student, components={**student.components, "vae_decoder": layers}),
        "components": dataclasses.replace(student, components={"vae_decoder": student.components["vae_decoder"]}),
    }
    edit = {"conv.weight/rows": torch.full((student.components["transformer"].weights["conv.weight"].shape[0],), 2.0)}
    for name, edits in (("edits", edit), ("other edits", {key: 2 * value for key, value in edit.items()})):
        component = edit_component(student.components["transformer"], edits)
        changed[name] = dataclasses.replace(student, components={**student.components, "transformer": component})
    keys = {name: bundle_key(value, FP32) for name, value in changed.items()}
    for name, parts in {
        "nothing": {},
        "precision": {"precision": "fp16"},
        "device": {"device": find_device("rtx-4090")},
        "option": {"options": {"dynamic": True}},
        "target": {"target": load_target("trt")},
        "order": {"hashed": {"an option": 1}},
    }.items():
        keys[name] = bundle_key(student, dataclasses.replace(FP32, **parts))  # type: ignore[arg-type]  # one part at a time
    assert len(set(keys.values())) == len(keys), keys
    assert keys["nothing"] == bundle_key(student, Deployment(ONNX, "fp32", CPU))


def test_an_unspecialized_student_is_refused(tiny_student: Student, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not specialized; call specialize_student\(student\) before export_student"):
        export(tiny_student, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_pair_the_target_refuses_writes_nothing(student: Student, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"8\.9"):
        export_student(student, Deployment(load_target("trt"), "fp8", find_device("rtx-3090")), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_float_student_is_not_passed_off_as_quantized(student: Student, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"not quantized; call quantize_student\(student, 'int8', target\) before export_student"
    ):
        export(student, tmp_path / "out", "int8")
    assert not list(tmp_path.iterdir())


def test_scales_of_another_graph_type_are_refused(student: Student, tmp_path: Path) -> None:
    component = dataclasses.replace(quantize_small("fp8", "bf16", None), role="transformer")
    mixed = dataclasses.replace(student, components={"transformer": component}, recipe=Recipe("r", (Rule("*", "fp8"),)))
    with pytest.raises(InputError, match=r"quantized with bf16 scales, onnx-fp8 takes fp32; quantize it for this target"):
        export(mixed, tmp_path / "out", "fp8")


def test_edits_are_kept_beside_the_graph_and_hashed(student: Student, tmp_path: Path) -> None:
    component = student.components["transformer"]
    edits = {"conv.weight/rows": torch.full((component.weights["conv.weight"].shape[0],), 2.0)}
    edited = dataclasses.replace(student, components={**student.components, "transformer": edit_component(component, edits)})
    bundle = export(edited, tmp_path / "out")
    artifact = find_artifact(bundle, "transformer", "edits")
    assert artifact is not None
    assert (artifact.path, artifact.format) == ("transformer/quantization.safetensors", "safetensors")
    assert torch.equal(read_edits(bundle.folder / "transformer" / EDITS_FILE)["conv.weight/rows"], edits["conv.weight/rows"])
    assert find_artifact(bundle, "vae_decoder", "edits") is None, "nothing was edited there"
    (bundle.folder / artifact.path).write_bytes(b"0" * artifact.bytes)
    with pytest.raises(BundleError, match=r"quantization\.safetensors was altered"):
        read_bundle(bundle.folder)
