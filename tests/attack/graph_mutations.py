"""Ways to alter an ONNX graph that is then signed again: weights that lie elsewhere, shapes that none has, cycles, bombs.

A mutation takes the file of a graph and a seeded random.Random, and says what it did in a few words.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import onnx
from onnx import TensorProto, helper

PLACES = (
    "../bundle.json",
    "../../outside/secret",
    "/etc/passwd",
    "/dev/zero",
    "model.onnx",
    "",
    ".",
    "x",
    "a\0b",
    "é" * 300,
    "..",
)
COUNTS = (
    "0",
    "1",
    "-1",
    "4096",
    "9" * 30,
    "9" * 5000,
    str(2**63),
    str(2**64 - 1),
    "1e3",
    "0x10",
    "\u0663",
    "\u00b2",
    "",
    " 1",
    "NaN",
)
SIZES = (0, -1, 1, 2, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1)
TYPES = (0, 99, 8, 14, 15, 16, 17, 20, 21, 22, 23, 1, 10, 7, 2)
OPERATORS = (
    "NoSuchOperator",
    "If",
    "Loop",
    "Scan",
    "Constant",
    "Reshape",
    "Squeeze",
    "DequantizeLinear",
    "Identity",
    "Attention",
    "",
)
Mutation = Callable[[Any, Random], str]


def _choose(items: Any, rng: Random) -> Any:
    return rng.choice(list(items)) if len(items) else None


def move_weight(model: Any, rng: Random) -> str:
    """Where a weight lies, from where on, how long."""
    tensor = _choose([each for each in model.graph.initializer if each.external_data], rng)
    if tensor is None:
        return shape_weight(model, rng)
    key = rng.choice(["location", "offset", "length", "checksum"])
    value = rng.choice(PLACES if key == "location" else COUNTS)
    kept = [(each.key, each.value) for each in tensor.external_data if each.key != key]
    del tensor.external_data[:]
    how = rng.choice(["changed", "changed", "gone", "twice"])
    for name, said in [*kept, *([(key, value)] if how != "gone" else []), *([(key, "1")] if how == "twice" else [])]:
        entry = tensor.external_data.add()
        entry.key, entry.value = name, said
    return f"{key} of {tensor.name} {how}: {value[:40]!r}"


def shape_weight(model: Any, rng: Random) -> str:
    """A weight's sizes, type, bytes, place."""
    tensor = _choose(model.graph.initializer, rng)
    if tensor is None:
        return "nothing"
    how = rng.choice(["size", "axes", "none", "type", "bytes", "place", "name", "many axes"])
    if how == "size" and len(tensor.dims):
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
    elif how in ("axes", "many axes"):
        tensor.dims.extend([rng.choice(SIZES)] * (100_000 if how == "many axes" else 3))
    elif how == "none":
        del tensor.dims[:]
    elif how == "type":
        tensor.data_type = rng.choice(TYPES)
    elif how == "bytes":
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2] if rng.random() < 0.5 else b"x" * 7
    elif how == "place":
        tensor.data_location = rng.choice([0, 1])
    else:
        tensor.name = rng.choice(["", "x" * 100_000, "a\0b", model.graph.initializer[0].name])
    return f"{how} of {tensor.name[:40]}: {list(tensor.dims)[:8]} of {tensor.data_type}"


def rewire(model: Any, rng: Random) -> str:
    """A node's inputs, outputs, operator, attributes."""
    node = _choose(model.graph.node, rng)
    if node is None:
        return "nothing"
    how = rng.choice(
        ["no inputs", "no outputs", "cycle", "operator", "domain", "attributes", "other's output", "twice", "gone", "huge"]
    )
    if how == "no inputs":
        del node.input[:]
    elif how == "no outputs":
        del node.output[:]
    elif how == "cycle" and node.input and node.output:
        node.input[0] = model.graph.node[-1].output[0]
    elif how == "operator":
        node.op_type = rng.choice(OPERATORS)
    elif how == "domain":
        node.domain = rng.choice(["evil", "com.microsoft", "x" * 100_000, "ai.onnx.ml"])
    elif how == "attributes":
        del node.attribute[:]
    elif how == "other's output" and node.output:
        node.output[0] = model.graph.node[0].output[0] if model.graph.node[0].output else ""
    elif how == "twice":
        model.graph.node.append(node)
    elif how == "gone":
        model.graph.node.remove(node)
    else:
        node.attribute.extend([helper.make_attribute(f"x{i}", rng.choice(SIZES)) for i in range(1000)])
    return f"{how}: {node.op_type[:40]} {node.name[:60]}"


def declare(model: Any, rng: Random) -> str:
    """Sizes, types and names of values that are declared; inputs and outputs."""
    values = _choose([group for group in (model.graph.input, model.graph.output, model.graph.value_info) if len(group)], rng)
    value = _choose(values or [], rng)
    if value is None:
        return "nothing"
    how = rng.choice(["size", "name of a size", "type", "no shape", "no type", "name", "gone", "many"])
    tensor = value.type.tensor_type
    if how == "size" and tensor.shape.dim:
        tensor.shape.dim[0].dim_value = rng.choice(SIZES)
    elif how == "name of a size" and tensor.shape.dim:
        tensor.shape.dim[0].dim_param = rng.choice(["height", "", "x" * 10_000, "0*height"])
    elif how == "type":
        tensor.elem_type = rng.choice(TYPES)
    elif how == "no shape":
        tensor.ClearField("shape")
    elif how == "no type":
        value.ClearField("type")
    elif how == "name":
        value.name = rng.choice(["", "x", "\u202e", "x" * 100_000])
    elif how == "gone":
        values.remove(value)
    else:
        values.extend([helper.make_tensor_value_info(f"v{i}", TensorProto.FLOAT, [2**40] * 4) for i in range(5000)])
    return f"{how} of {value.name[:40]}"


def set_head(model: Any, rng: Random) -> str:
    """Versions, functions, metadata, subgraphs in subgraphs."""
    how = rng.choice(["ir", "opset", "no opset", "function", "metadata", "nested", "chain", "constants"])
    if how == "ir":
        model.ir_version = rng.choice([0, -1, 999, 2**62])
    elif how == "opset":
        model.opset_import[0].version = rng.choice([0, -1, 999, 1])
    elif how == "no opset":
        del model.opset_import[:]
    elif how == "function":
        node = helper.make_node("f", ["a"], ["b"], domain="evil")
        model.functions.append(helper.make_function("evil", "f", ["a"], ["b"], [node], [helper.make_opsetid("evil", 1)]))
        model.graph.node.append(helper.make_node("f", [model.graph.input[0].name], ["odd"], domain="evil"))
    elif how == "metadata":
        helper.set_model_props(model, {"x" * 1000 + str(i): "y" * 100 for i in range(2000)})
    elif how == "nested":
        _nest(model, rng.choice([5, 20]))
    else:
        _lengthen(model, 5_000, how)
    return how


def _nest(model: Any, depth: int) -> None:
    graph = helper.make_graph([], "x", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])])
    for i in range(depth):
        node = helper.make_node("If", ["c"], [f"y{i}"], then_branch=graph, else_branch=graph) if i < 6 else None
        node = node or helper.make_node("If", ["c"], [f"y{i}"], then_branch=graph)
        graph = helper.make_graph([node], "x", [], [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [1])])
    model.graph.node.append(graph.node[0])


def _lengthen(model: Any, count: int, how: str) -> None:
    """Nodes that compute nothing, or constants of a number each."""
    if how == "chain":
        first = model.graph.input[0].name if model.graph.input else "none"
        names = [first, *(f"chain{i}" for i in range(count))]
        model.graph.node.extend([helper.make_node("Identity", [a], [b]) for a, b in pairwise(names)])
    else:
        model.graph.initializer.extend([helper.make_tensor(f"constant{i}", TensorProto.FLOAT, [1], [1.0]) for i in range(count)])


MUTATIONS: tuple[tuple[Mutation, int], ...] = ((move_weight, 6), (shape_weight, 5), (rewire, 4), (declare, 3), (set_head, 2))


def alter_graph(path: Path, rng: Random) -> str:
    """One to three mutations of a graph's file; its weights lie beside it as they did."""
    model = onnx.load(str(path), load_external_data=False)
    said = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        mutate = rng.choices([each for each, _ in MUTATIONS], [weight for _, weight in MUTATIONS])[0]
        said.append(f"{mutate.__name__}: {mutate(model, rng)}")
    path.write_bytes(model.SerializeToString())
    return f"{path.parent.name}/{path.name}: {'; '.join(said)}"
