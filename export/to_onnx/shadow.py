"""The fp32-compute shadow of a 16-bit graph: the same weights, the same Q/DQ, arithmetic in float32.

A CPU lacks bfloat16 and FP8 kernels, yet the file that ships must be checked. The shadow reads the shipped graph's own data
file: each 16-bit initializer gets a Cast to float32 behind it (a runtime folds it at load), every Cast to 16 bit becomes a
Cast to float32, and the rest follows. FP8 activations take the form that older versions of ONNX Runtime open too
(rules/float8_casts.py). No weight is copied, so a shadow adds only its graph's few hundred kilobytes.
What it shows: wrong weights, scales, wiring. What it does not: 16-bit rounding of activations.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from sprint_export.export.to_onnx.rule import load_rule
from sprint_export.export.to_onnx.tensors import to_ir, to_torch

HALF = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16)
FLOAT = ir.DataType.FLOAT


def write_shadow(graph_path: Path) -> Path | None:
    """Write `model.shadow.onnx` beside a graph; returns its path, or None where the graph computes in float32 already."""
    model = ir.load(graph_path)
    if not any(value.dtype in HALF for value in model.graph.initializers.values()):
        return None
    widen_graph(model)
    load_rule("float8_casts").apply(model)
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
