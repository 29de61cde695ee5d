"""The fp32-compute shadow of a 16-bit graph: the same weights, the same Q/DQ, arithmetic in float32.

A CPU lacks bfloat16 and FP8 kernels, yet the file that ships must be checked. The shadow reads the shipped graph's own data
file: each 16-bit initializer gets a Cast to float32 behind it (a runtime folds it at load), every Cast to 16 bit becomes a
Cast to float32, and the rest follows. No weight is copied, so a shadow adds only its graph's few hundred kilobytes.
What it shows: wrong weights, scales, wiring. What it does not: 16-bit rounding of activations.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

HALF = (ir.DataType.BFLOAT16, ir.DataType.FLOAT16)
FLOAT = ir.DataType.FLOAT


def write_shadow(graph_path: Path) -> Path | None:
    """Write `model.shadow.onnx` beside a graph; returns its path, or None where the graph computes in float32 already."""
    model = ir.load(graph_path)
    if not any(value.dtype in HALF for value in model.graph.initializers.values()):
        return None
    for node in list(model.graph.all_nodes()):
        _widen_node(node)
    for value in list(model.graph.initializers.values()):
        if value.dtype in HALF:
            _widen_initializer(model.graph, value)
    path = graph_path.with_suffix(".shadow.onnx")
    ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    return path


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
