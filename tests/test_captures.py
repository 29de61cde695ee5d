"""Files made of a kept capture are those that a fresh one gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sprint_export.export.to_onnx import writer
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests import captures
from tests.export.to_onnx.graphs import Small

RULES = ("pointwise_matmuls", "fewer_transposes")


def write(component: object, folder: Path) -> list[bytes]:
    writer.write_graph(writer.make_graph(component, "fp32", RULES), folder / "model.onnx")  # type: ignore[arg-type]
    return [(folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data")]


def test_a_kept_capture_gives_the_same_files(tiny_student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component = specialize_student(tiny_student).components["vae_decoder"]
    captures.keep_captures()
    write(component, tmp_path / "first")
    kept = write(component, tmp_path / "kept")
    monkeypatch.setattr(writer, "translate_module", vars(writer)["_translate_module"])
    assert kept == write(component, tmp_path / "fresh")


def test_a_kept_program_is_the_one_that_is_captured(tiny_student: Student) -> None:
    pytest.importorskip("coremltools")
    from sprint_export.export.to_coreml import fixes
    from sprint_export.export.to_coreml import writer as coreml

    component = specialize_student(tiny_student).components["transformer"]
    captures.keep_captures()
    parts = [coreml.make_parts(component, "fp16", {}) for _ in range(2)]  # the second of a copy: the first was edited
    fresh = vars(coreml)["_capture_program"](component.module, component.inputs)
    fixes.drop_aliases(fresh)
    assert str(parts[0][0].program.graph) == str(parts[1][0].program.graph) == str(fresh.graph)


def test_what_decides_a_graph_decides_its_key() -> None:
    with torch.device("meta"):
        module, same, other, wide = Small(), Small(), Small(), Small().double()
    other.conv.padding = (0, 0)
    keys = [captures.hash_module(each, (), ()) for each in (module, same, other, wide)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert captures.hash_module(lambda x: x) is None
