"""Files made of a kept capture are those that a fresh one gives."""

from __future__ import annotations

from contextvars import Context
from pathlib import Path

import pytest
import torch

from sprint_export.export.captures import Captures, hash_module, keep_captures, recall_capture
from sprint_export.export.to_onnx import writer
from sprint_export.nouns.student import Student
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import Small

RULES = ("pointwise_matmuls", "fewer_transposes")


def write(component: object, folder: Path, kept: Captures | None = None) -> list[bytes]:
    """Where the tests' own captures are not seen."""

    def make() -> None:
        writer.write_graph(writer.make_graph(component, "fp32", RULES), folder / "model.onnx")  # type: ignore[arg-type]

    def make_kept() -> None:
        with keep_captures(kept or Captures()):
            make()

    Context().run(make if kept is None else make_kept)
    return [(folder / name).read_bytes() for name in ("model.onnx", "model.onnx.data")]


def test_a_kept_capture_gives_the_same_files(tiny_student: Student, tmp_path: Path) -> None:
    component, kept = specialize_student(tiny_student).components["vae_decoder"], Captures()
    fresh = write(component, tmp_path / "fresh")
    assert write(component, tmp_path / "first", kept) == fresh
    assert len(kept.kept) == 1
    assert write(component, tmp_path / "again", kept) == fresh
    assert len(kept.kept) == 1


def test_a_kept_program_is_the_one_that_is_captured(tiny_student: Student) -> None:
    pytest.importorskip("coremltools")
    from sprint_export.export.to_coreml.writer import make_parts

    component = specialize_student(tiny_student).components["transformer"]

    def show() -> str:
        return str(make_parts(component, "fp16", {})[0].program.graph)

    def show_kept() -> list[str]:
        with keep_captures(Captures()):
            return [show(), show()]  # the second of a copy: the first was edited

    assert Context().run(show_kept) == [Context().run(show)] * 2


def test_the_oldest_goes_and_an_outer_block_keeps_all() -> None:
    outer, inner, translated = Captures(most=2), Captures(), []

    def translate(name: str) -> list[str]:
        translated.append(name)
        return [name]

    def recall() -> list[list[str]]:
        with keep_captures(outer), keep_captures(inner):
            return [recall_capture(translate, list, name) for name in "aabbcca"]

    graphs = Context().run(recall)
    assert graphs == [[name] for name in "aabbcca"]
    assert graphs[0] is not graphs[1], "a caller's own"
    assert translated == list("abca"), "a had gone"
    assert (len(outer.kept), len(inner.kept)) == (2, 0)
    outer.kept.clear()

    def capture() -> list[str]:
        return recall_capture(translate, list, "a")

    assert Context().run(capture) == ["a"]
    assert not outer.kept, "nothing is kept outside"


def test_what_decides_a_graph_decides_its_key() -> None:
    with torch.device("meta"):
        module, same, other, wide = Small(), Small(), Small(), Small().double()
    other.conv.padding = (0, 0)
    keys = [hash_module(each, (), ()) for each in (module, same, other, wide)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert hash_module(lambda x: x) is None
