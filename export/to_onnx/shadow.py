"""The fp32-compute shadow of a 16-bit graph: the same weights, the same Q/DQ, arithmetic in float32.

A CPU lacks bfloat16 and FP8 kernels, yet the file that ships must be checked. The shadow reads the shipped graph's own data
file: each 16-bit initializer gets a Cast to float32 behind it (a runtime folds it at load), every Cast to 16 bit becomes a
Cast to float32, and the rest follows. FP8 activations take the form that older versions of ONNX Runtime open too
(rules/float8_casts.py). No weight is copied, so a shadow adds only its graph's few hundred kilobytes.
What it shows: wrong weights, scales, wiring. What it does not: 16-bit rounding of activations.

A runtime computes first what depends on no input, so all weights would be float32 at once: 10.5 GB of Gemma-2-2B. A large weight
is widened when its layer runs (`delay_weights`), a table behind the rows that are looked up.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from sprint_export.export.to_onnx.rule import load_rule
from sprint_export.export.to_onnx.tensors import to_ir, to_torch

HALF = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16)
FLOAT = ir.DataType.FLOAT
FLOAT8 = (ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2)
LARGE_VALUES = 1 << 20


def write_shadow(graph_path: Path) -> Path | None:
    """Write `model.shadow.onnx` beside a graph; returns its path, or None where the graph computes in float32 already."""
    model = ir.load(graph_path)
    if not any(value.dtype in HALF for value in model.graph.initializers.values()):
        return None
    widen_graph(model)
    load_rule("float8_casts").apply(model)
    delay_weights(model)
    path = graph_path.with_suffix(".shadow.onnx")
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    return path


def widen_graph(model: ir.Model, inline_values: int = 0) -> None:
    """Compute a 16-bit graph in float32, in place; initializers of up to `inline_values` values become float32 themselves."""
    for node in list(model.graph.all_nodes()):
        _widen_node(node)
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if value.dtype not in HALF or tensor is None:
            continue
        if tensor.size <= inline_values:
            value.const_value = to_ir(to_torch(tensor), FLOAT, name)
            value.type = ir.TensorType(FLOAT)
        else:
            _widen_initializer(model.graph, value)


def _widen_node(node: ir.Node) -> None:
    for name in ("to", "output_dtype", "dtype", "stash_type"):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.as_int() in HALF:
            node.attributes[name] = ir.AttrInt64(name, int(FLOAT))
    for value in node.outputs:
        if value.dtype in HALF:
            value.type = ir.TensorType(FLOAT)


def _widen_initializer(graph: ir.Graph, value: ir.Value) -> None:
    users = list(value.uses())
    cast = ir.node("Cast", [value], attributes={"to": int(FLOAT)})
    cast.name = cast.outputs[0].name = f"{value.name}.fp32"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(FLOAT), value.shape
    for use in users:
        use.node.replace_input_with(use.idx, cast.outputs[0])
    graph.insert_before(graph[0], cast)


def delay_weights(model: ir.Model) -> None:
    """Let large weights be widened after what their layer reads is there, in place; no value changes.

        widen(w)   ->   widen(Reshape(w, Where(IsNaN(ReduceMax(x)), shape, shape)))        x, the layer's other input

    8-bit integers are left alone: their layers are computed as they are stored.
    """
    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.size < LARGE_VALUES or value.dtype not in (*HALF, *FLOAT8):
            continue
        for use in list(value.uses()):
            if use.idx == 0 and use.node.op_type in ("Cast", "DequantizeLinear"):
                _delay(model.graph, use.node, value)


def _delay(graph: ir.Graph, widening: ir.Node, weight: ir.Value) -> None:
    layer, activation = _find_layer(widening)
    if layer is None:
        return
    if layer.op_type == "Gather" and widening.op_type == "Cast" and len(widening.outputs[0].uses()) == 1:
        _widen_rows(graph, layer, widening, weight)
    elif activation is not None and activation.dtype == FLOAT:
        shape = graph.initializers.get(f"{weight.name}.shape")
        if shape is None:
            assert weight.shape is not None
            sizes = ir.tensor(list(weight.shape.numpy()), ir.DataType.INT64, f"{weight.name}.shape")
            shape = ir.Value(name=sizes.name, type=ir.TensorType(ir.DataType.INT64), const_value=sizes)
            shape.shape = ir.Shape([len(weight.shape)])
            graph.register_initializer(shape)
        largest = ir.node("ReduceMax", [activation], attributes={"keepdims": 0})
        is_nan = ir.node("IsNaN", [largest.outputs[0]])
        same = ir.node("Where", [is_nan.outputs[0], shape, shape])
        late = ir.node("Reshape", [weight, same.outputs[0]])
        late.outputs[0].type, late.outputs[0].shape = weight.type, weight.shape
        for node, part in ((largest, "largest"), (is_nan, "is_nan"), (same, "late_shape"), (late, "late")):
            node.name = node.outputs[0].name = f"{widening.outputs[0].name}.{part}"
        widening.replace_input_with(0, late.outputs[0])
        graph.remove(widening)
        graph.insert_before(layer, [largest, is_nan, same, late, widening])


def _find_layer(widening: ir.Node) -> tuple[ir.Node | None, ir.Value | None]:
    """Who reads a widened weight, and what else it reads; None where a weight has several readers or goes through other nodes."""
    uses = list(widening.outputs[0].uses())
    if len(uses) != 1:
        return None, None
    layer = uses[0].node
    others = [
        value for i, value in enumerate(layer.inputs) if i != uses[0].idx and value is not None and not value.is_initializer()
    ]
    return layer, others[0] if others else None


def _widen_rows(graph: ir.Graph, gather: ir.Node, cast: ir.Node, table: ir.Value) -> None:
    rows = gather.outputs[0]
    wide = ir.Value(name=f"{rows.name}.fp32", type=ir.TensorType(FLOAT), shape=rows.shape)
    readers = list(rows.uses())
    gather.replace_input_with(0, table)
    graph.remove(cast)
    cast = ir.node("Cast", [rows], attributes={"to": int(FLOAT)}, outputs=[wide])
    cast.name = wide.name
    for use in readers:
        use.node.replace_input_with(use.idx, wide)
    rows.type = table.type
    graph.insert_after(gather, cast)
