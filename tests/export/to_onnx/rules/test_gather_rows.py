"""A quantized table is read before it is restored: the same values, and the table is never float as a whole."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from sprint_export.export.to_onnx.rule import load_rule
from tests.made_student import Array


def make_model(block: int | None = None, is_int4: bool = False, columns: int = 48) -> ir.Model:
    """Gather(DQ(int8 or int4 [64, columns]), ids [1, 8])."""
    random = np.random.default_rng(0)
    table = random.integers(-127, 128, (64, columns), np.int8)
    table = (table % 16 - 8).astype(ml_dtypes.int4) if is_int4 else table
    scale = random.random((64,) if block is None else (64, columns // block), np.float32)
    values = {"w": table, "w.scale": scale, "w.zero": np.zeros_like(scale, table.dtype)}
    stored = [
        ir.Value(
            name=name,
            shape=ir.Shape(v.shape),
            type=ir.TensorType(ir.DataType.from_numpy(v.dtype)),
            const_value=ir.tensor(v, name=name),
        )
        for name, v in values.items()
    ]
    ids = ir.Value(name="ids", shape=ir.Shape([1, 8]), type=ir.TensorType(ir.DataType.INT64))
    attributes = {"axis": 0} if block is None else {"axis": 1, "block_size": block}
    restore = ir.node("DequantizeLinear", stored, attributes=attributes)
    read = ir.node("Gather", [restore.outputs[0], ids], attributes={"axis": 0})
    read.outputs[0].name, read.outputs[0].shape, read.outputs[0].type = (
        "rows",
        ir.Shape([1, 8, columns]),
        ir.TensorType(ir.DataType.FLOAT),
    )
    last = ir.node("Identity", [read.outputs[0]])
    last.outputs[0].name, last.outputs[0].shape, last.outputs[0].type = (
        "y",
        ir.Shape([1, 8, columns]),
        ir.TensorType(ir.DataType.FLOAT),
    )
    graph = ir.Graph(
        [ids], [last.outputs[0]], nodes=[restore, read, last], initializers=stored, opset_imports={"": 22}, name="small"
    )
    return ir.Model(graph, ir_version=10)


def run(model: ir.Model) -> Array:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"ids": np.array([[3, 0, 63, 3, 17, 5, 40, 41]])})[0]
    return found


def test_rows_are_read_then_restored() -> None:
    model = make_model()
    before = run(model)
    assert load_rule("gather_rows").apply(model) == 1
    assert [node.op_type for node in model.graph] == ["Gather", "Cast", "Gather", "Unsqueeze", "Mul", "Identity"]
    assert set(model.graph.initializers) == {"w", "w.scale", "w.last"}, "the zero point went with its DequantizeLinear"
    assert np.array_equal(run(model), before), "the same product of the same values"


@pytest.mark.parametrize("is_packed", [False, True])
def test_rows_of_scales_in_blocks_are_gathered_too(is_packed: bool) -> None:
    """Also of 4-bit values, which go two in a byte."""
    model = make_model(block=16, is_int4=is_packed)
    before = run(model)
    assert load_rule("gather_rows").apply(model) == 1
    operators = [node.op_type for node in model.graph]
    assert "DequantizeLinear" not in operators
    halves = ["Div", "Floor", "Mul", "Sub", "Sub", "Concat"] if is_packed else []
    assert operators == ["Gather", "Cast", *halves, "Gather", "Unsqueeze", "Reshape", "Mul", "Reshape", "Identity"]
    table = model.graph.initializers["w.packed" if is_packed else "w"]
    assert tuple(table.shape or ()) == (64, 24 if is_packed else 48)
    assert np.array_equal(run(model), before), "the same product of the same values"


def test_an_odd_number_of_4_bit_values_is_left_alone() -> None:
    model = make_model(is_int4=True, columns=47)
    before = [node.op_type for node in model.graph]
    assert load_rule("gather_rows").apply(model) == 0
    assert [node.op_type for node in model.graph] == before == ["DequantizeLinear", "Gather", "Identity"]
