"""Unsigned activations: the very same outputs, weights untouched, nothing left signed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from sprint_export.export.rewrites import unsigned_activations
from sprint_export.export.to_onnx import make_graph, write_graph
from sprint_export.schema import Student
from tests.export.graphs import initializers, quantize, quantize_small, run_onnx, small_component, small_feeds, types_of
from tests.made_student import Array

ROLES = ("text_encoder", "transformer", "vae_decoder")


def write_pair(component: object, folder: Path) -> tuple[Path, Path]:
    """The graph before and after."""
    for name in ("before", "after"):
        graph = make_graph(component, "fp32", ["unsigned_activations"] if name == "after" else [])  # type: ignore[arg-type]
        write_graph(graph, folder / name / "model.onnx")
    return folder / "before" / "model.onnx", folder / "after" / "model.onnx"


def test_the_outputs_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    before, after = write_pair(quantize_small("int8", "fp32", 0), tmp_path)
    feeds = {name: value * 1.5 for name, value in small_feeds().items()}  # some values beyond the range: both clip alike
    np.testing.assert_array_equal(run_onnx(before, feeds, fuse=False), run_onnx(after, feeds, fuse=False))


@pytest.mark.parametrize("role", ROLES)
def test_the_made_student_is_the_same(
    made_special: Student, made_feeds: dict[str, dict[str, Array]], tmp_path: Path, role: str
) -> None:
    before, after = write_pair(quantize(made_special, "onnx", "int8").components[role], tmp_path)
    found, wanted = (run_onnx(path, made_feeds[role], fuse=False) for path in (after, before))
    np.testing.assert_array_equal(found, wanted)
    model = onnx.load(str(after))
    types = types_of(model)
    quantized = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantized
    assert {types[node.output[0]] for node in quantized} == {TensorProto.UINT8}
    stored = [
        node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in initializers(model)
    ]
    assert {types[name] for name in stored} == {TensorProto.INT8}, "weights stay signed"
    zeros = {node.input[2] for node in quantized}
    assert len(zeros) == 1, "one zero point for all"
    assert onnx.numpy_helper.to_array(initializers(model)[zeros.pop()]) == 128


def test_a_float_graph_stays_as_it_is() -> None:
    graph = make_graph(small_component(), "fp32")
    before = ir.serde.serialize_model(graph).SerializeToString()
    unsigned_activations.rewrite(graph)
    assert ir.serde.serialize_model(graph).SerializeToString() == before
