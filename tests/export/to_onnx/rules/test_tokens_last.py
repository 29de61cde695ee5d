"""Tokens last: the same tokens, by a transpose of the picture instead of one of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Component, Student
from tests.export.to_onnx.graphs import run_onnx, small_component, small_feeds
from tests.made_student import Array


def permutations(component: Component, rewrites: list[str], path: Path) -> list[list[int]]:
    """Of all Transpose nodes; the graph is left at `path`."""
    graph = make_graph(component, "fp32", rewrites)
    found = [list(node.attributes["perm"].as_ints()) for node in graph.graph if node.op_type == "Transpose"]
    write_graph(graph, path)
    return found


def compare(component: Component, feeds: dict[str, Array], folder: Path) -> int:
    """How many transposes moved; the outputs are equal bit for bit."""
    before = permutations(component, [], folder / "before" / "model.onnx")
    after = permutations(component, ["tokens_last"], folder / "after" / "model.onnx")
    found, wanted = (run_onnx(folder / name / "model.onnx", feeds, fuse=False) for name in ("after", "before"))
    np.testing.assert_array_equal(found, wanted)
    moved = after.count([0, 2, 3, 1]) - before.count([0, 2, 3, 1])
    assert before.count([0, 2, 1]) - after.count([0, 2, 1]) == moved
    return moved


def test_a_picture_becomes_tokens(tmp_path: Path) -> None:
    assert compare(small_component(), small_feeds(), tmp_path) == 1


@pytest.mark.parametrize("name", ["tiny", "made"])
def test_every_block_of_a_transformer(
    tiny_special: Student,
    made_special: Student,
    tiny_feeds: dict[str, dict[str, Array]],
    made_feeds: dict[str, dict[str, Array]],
    tmp_path: Path,
    name: str,
) -> None:
    student, feeds = (tiny_special, tiny_feeds) if name == "tiny" else (made_special, made_feeds)
    moved = compare(student.components["transformer"], feeds["transformer"], tmp_path)
    blocks = student.configs["transformer"]["num_layers"]
    assert moved == blocks + 1, "one feed-forward a block, and the patch embedding"


def test_tokens_that_become_a_picture_are_left_alone(tiny_special: Student, tmp_path: Path) -> None:
    """The last transpose of a transformer goes the other way: its tokens come from a MatMul."""
    after = permutations(tiny_special.components["transformer"], ["tokens_last"], tmp_path / "model.onnx")
    assert [0, 2, 1] in after
