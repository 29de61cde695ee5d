"""The most that an ONNX graph's results hold at once, by the shapes it declares; weights are neither loaded nor counted.

A result is held from its node to its last reader. What only rearranges names of axes shares its input's memory, and what is made
of weights alone (restored ones) is part of the layer that reads it. A value without a shape counts as nothing, free axes as one.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from sprint_export.errors import BundleError

VIEWS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
BITS = {"FLOAT": 32, "INT32": 32, "DOUBLE": 64, "INT64": 64, "FLOAT16": 16, "BFLOAT16": 16}  # 8 of any other type


def count_live(path: Path) -> int | None:
    """Bytes of one run of a graph file; None where the `onnx` package is not installed.

    Raises:
        BundleError: it is no graph.
    """
    if importlib.util.find_spec("onnx") is None:
        return None
    try:
        return _count_live(path)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's own kinds, and what names and types that fit nothing lead to
        said = " ".join(str(error).split())[:200]
        raise BundleError(f"{path} holds no graph that can be read ({said}); copy or export the bundle again") from error


def _count_live(path: Path) -> int:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    declared = {value.name: _bytes(value) for value in (*graph.input, *graph.output, *graph.value_info)}
    fixed = {tensor.name for tensor in graph.initializer}
    held: dict[str, str] = {value.name: value.name for value in graph.input}  # a value -> the one whose memory it is in
    last = {value.name: len(graph.node) for value in graph.output}
    for i, node in enumerate(graph.node):
        if all(name in fixed for name in node.input if name):
            fixed.update(node.output)
            continue
        for name in node.output:
            held[name] = held.get(node.input[0], name) if node.op_type in VIEWS else name
        for name in node.input:
            if name in held:
                last[held[name]] = max(i, last.get(held[name], 0))
    most = now = sum(declared.get(value.name, 0) for value in graph.input)
    ends: dict[int, list[str]] = {}
    for name, place in last.items():
        ends.setdefault(place, []).append(name)
    for i, node in enumerate(graph.node):
        now += sum(declared.get(name, 0) for name in node.output if held.get(name) == name)
        most = max(most, now)
        now -= sum(declared.get(name, 0) for name in ends.get(i, ()) if held.get(name) == name)
    return most


def _bytes(value: Any) -> int:
    import onnx

    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return 0
    name = onnx.TensorProto.DataType.Name(tensor.elem_type)
    values: int = math.prod(axis.dim_value or 1 for axis in tensor.shape.dim)
    return values * BITS.get(name, 8) // 8
