"""Memory that graphs plan: weights and the results that live at once, of graphs that say their sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from sprint_export.validate.memory import plan_memory
from tests.small_bundle import INTERFACES, make_small_bundle

VALUES = 1000


def write_graph(path: Path) -> None:
    """Two operators in a row, 4 bytes a value: two of three results live at once."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [VALUES]) for name in "abc"]
    nodes = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [values[0]], [values[2]], value_info=[values[1]])), str(path))


def test_weights_and_the_results_that_live_at_once(tmp_path: Path) -> None:
    bundle = make_small_bundle(tmp_path / "bundle")
    for role in INTERFACES:
        write_graph(bundle.folder / role / "model.onnx")
    artifacts = tuple(replace(a, bytes=(bundle.folder / a.path).stat().st_size) for a in bundle.artifacts)
    bundle = replace(bundle, artifacts=artifacts)
    sizes = {role: sum(a.bytes for a in bundle.artifacts if a.role == role) for role in INTERFACES}
    rows = {row.component: row.value for row in plan_memory(bundle)}
    assert rows == {role: (sizes[role] + 2 * 4 * VALUES) / 1e6 for role in INTERFACES}


def test_what_says_no_sizes_has_no_row(tmp_path: Path) -> None:
    bundle = make_small_bundle(tmp_path / "bundle")
    assert plan_memory(replace(bundle, options={"dynamic": True})) == []
    other = tuple(replace(artifact, format="mlprogram") for artifact in bundle.artifacts)
    assert plan_memory(replace(bundle, artifacts=other)) == []
