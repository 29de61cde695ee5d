"""Transposes meet and go; each rule fires on the student it was made for, and the values stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from sprint_export.export.to_onnx.rule import load_rule
from sprint_export.nouns.student import Student
from tests.export.to_onnx.graphs import count_ops, export_component, producers, quantize, run_onnx
from tests.made_student import Array

TO_MATMULS = ["unsigned_inputs", "pointwise_matmuls"]
TOLERANCE = 1e-6  # of the largest magnitude: the same operations in another order of axes


@pytest.fixture(scope="module")
def quantized(made_special: Student) -> Student:
    return quantize(made_special, "onnx", "int8")


@pytest.mark.parametrize("role", ["transformer", "vae_decoder"])
def test_matmuls_read_their_rounded_input(
    quantized: Student, made_feeds: dict[str, dict[str, Array]], tmp_path: Path, role: str
) -> None:
    component = quantized.components[role]
    before = export_component(component, "fp32", tmp_path / "before", TO_MATMULS)
    after = export_component(component, "fp32", tmp_path / "after", [*TO_MATMULS, "fewer_transposes"])
    fewer = count_ops(before.model)["Transpose"] - count_ops(after.model)["Transpose"]
    assert fewer > 0 or (role, fewer) == ("vae_decoder", 0), "none of the decoder's meet"
    made_by = producers(after.model)
    for node in after.model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in made_by and made_by[node.input[1]].op_type == "DequantizeLinear":
            assert made_by[node.input[0]].op_type == "DequantizeLinear", node.name
        if node.op_type == "Sigmoid":
            source = made_by.get(node.input[0])
            assert source is None or source.op_type != "Transpose", f"{node.name}: a SiLU behind a Transpose"
    found, wanted = (run_onnx(graph.path, made_feeds[role], fuse=False) for graph in (after, before))
    deviation = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert deviation <= TOLERANCE, f"{deviation:.1e} of {TOLERANCE:.0e}"


def test_a_block_keeps_the_two_transposes_around_its_depthwise_convolution(quantized: Student, tmp_path: Path) -> None:
    component = quantized.components["transformer"]
    after = export_component(component, "fp32", tmp_path, [*TO_MATMULS, "fewer_transposes"])
    made_by = producers(after.model)
    pictures = [
        n
        for n in after.model.graph.node
        if n.op_type == "Transpose" and list(n.attribute[0].ints) in ([0, 3, 1, 2], [0, 2, 3, 1])
    ]
    assert len(pictures) == 2 * 3, "three blocks"
    convolutions = [n for n in after.model.graph.node if n.op_type == "Conv" and n.input[0] in made_by]
    assert sum(made_by[n.input[0]].op_type == "Transpose" for n in convolutions) == 3


def make_pair(readers: int, other: bool) -> ir.Model:
    """x [1, 2, 3, 4] -> Q -> DQ -> Transpose, a few times; `other` adds a reader that does not transpose."""
    x = ir.Value(name="x", shape=ir.Shape([1, 2, 3, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    scale = ir.Value(name="s", shape=ir.Shape([]), type=ir.TensorType(ir.DataType.FLOAT), const_value=ir.tensor(np.float32(0.1)))
    zero = ir.Value(name="z", shape=ir.Shape([]), type=ir.TensorType(ir.DataType.UINT8), const_value=ir.tensor(np.uint8(128)))
    q = ir.node("QuantizeLinear", [x, scale, zero], name="q")
    dq = ir.node("DequantizeLinear", [q.outputs[0], scale, zero], name="dq")
    turned = [ir.node("Transpose", [dq.outputs[0]], attributes={"perm": [0, 2, 3, 1]}) for _ in range(readers)]
    nodes = [q, dq, *turned, *([ir.node("Relu", [dq.outputs[0]])] if other else [])]
    for i, node in enumerate(nodes):
        node.outputs[0].name = f"v{i}"
        node.outputs[0].shape = ir.Shape([1, 3, 4, 2] if node.op_type == "Transpose" else [1, 2, 3, 4])
        node.outputs[0].type = ir.TensorType(ir.DataType.UINT8 if node.op_type == "QuantizeLinear" else ir.DataType.FLOAT)
    outputs = [ir.node("Relu", [node.outputs[0]]) for node in nodes[2:]]
    for i, node in enumerate(outputs):
        node.outputs[0].name = f"out{i}"
    graph = ir.Graph([x], [n.outputs[0] for n in outputs], nodes=[*nodes, *outputs], initializers=[scale, zero], name="pair")
    return ir.Model(graph, ir_version=10)


def test_readers_that_transpose_alike_share_one_transpose() -> None:
    model = make_pair(3, other=False)
    load_rule("fewer_transposes").apply(model)
    assert [node.op_type for node in model.graph][:3] == ["Transpose", "QuantizeLinear", "DequantizeLinear"]
    assert sum(node.op_type == "Transpose" for node in model.graph) == 1


def test_another_reader_keeps_its_axes() -> None:
    model = make_pair(2, other=True)
    load_rule("fewer_transposes").apply(model)
    assert [node.op_type for node in model.graph][:2] == ["QuantizeLinear", "DequantizeLinear"]
    assert sum(node.op_type == "Transpose" for node in model.graph) == 2
