"""A captured graph with the blocks that were left out of it put back (export/repeats.py), to the names a whole capture gives."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from sprint_export.export.repeats import MOST_VALUES, IrregularError, Record, Ref, Repeat, list_weights, put_back

NUMBERED = re.compile(r"node_[A-Z]\w*_(\d+)")  # onnx_ir's name for a node that was given none: one count for all operators
COUNT, VALUE = "count ", "val_"


def repeat_graph(model: ir.Model, module: torch.nn.Module, repeats: Sequence[Repeat]) -> ir.Model:
    """Put back what `shorten` left out, in place.

    Args:
        model: as torch writes it of the shortened module.
        module: whole; its weights are the initializers, in its order.
        repeats: what was left out.

    Raises:
        IrregularError: the graph's blocks are not a repetition; the model is of no use then.
    """
    if not repeats:
        return model
    graph, nodes = model.graph, list(model.graph)
    records = [_describe(node) for node in nodes]
    found = put_back(nodes, records, _scopes_of, repeats)
    values = {str(value.name): value for value in (*graph.inputs, *graph.initializers.values())}
    made = []
    for like, record in found:
        inputs = [_find_input(graph, values, old, name) for old, name in zip(like.inputs, record[2], strict=True)]
        node = _make_node(like, record, inputs)
        values |= {str(value.name): value for value in node.outputs}
        made.append(node)
    outputs = [str(value.name) for value in graph.outputs]
    if missing := set(outputs) - set(values):
        raise IrregularError(f"nothing makes {missing}")
    graph.outputs.clear()
    graph.remove(nodes, safe=True)  # else weights would count them as their readers
    graph.extend(made)
    graph.outputs.extend(values[name] for name in outputs)
    _go_on_counting(graph, [record for _, record in found], records)
    _order_initializers(graph, list(list_weights(module)))
    return model


def _go_on_counting(graph: ir.Graph, records: Sequence[Record], before: Sequence[Record]) -> None:
    """Nodes to come get the numbers that they would get."""
    counts = graph._name_authority
    counts._node_counter += _highest(COUNT, records) - _highest(COUNT, before)
    counts._value_counter += _highest(VALUE, records) - _highest(VALUE, before)


def _order_initializers(graph: ir.Graph, names: Sequence[str]) -> None:
    """In the order of the names, and then the others."""
    order = {name: i for i, name in enumerate(names)}
    initializers = sorted(graph.initializers.values(), key=lambda value: order.get(str(value.name), len(order)))
    graph.initializers.clear()
    for value in initializers:
        graph.initializers.add(value)


def _scopes_of(node: ir.Node) -> list[str]:
    """Paths of the modules that a node was written in."""
    source = node.meta.get("node")
    return [] if source is None else [path for path, _ in source.meta.get("nn_module_stack", {}).values()]


def _describe(node: ir.Node) -> Record:
    numbered = NUMBERED.fullmatch(str(node.name))
    names = (Ref(f"{COUNT}{numbered[1]}" if numbered else node.name), *(Ref(value.name) for value in node.outputs))
    types = tuple(f"{value.dtype} {value.shape}" for value in node.outputs)
    inputs = tuple(None if value is None else Ref(value.name) for value in node.inputs)
    attributes = tuple((name, _describe_attribute(attribute)) for name, attribute in node.attributes.items())
    return names, f"{node.domain}:{node.op_type}:{node.overload}", inputs, types, attributes


def _describe_attribute(attribute: ir.Attr) -> Any:
    if attribute.type == ir.AttributeType.TENSOR:
        tensor = attribute.as_tensor()
        if tensor.size > MOST_VALUES:
            raise IrregularError(f"a constant of {tensor.size} values")
        return str(tensor.dtype), str(tensor.shape), tuple(tensor.numpy().flatten().tolist())
    if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
        raise IrregularError("a graph in a node")
    return tuple(attribute.value) if isinstance(attribute.value, list | tuple) else attribute.value


def _make_attribute(like: ir.Attr, described: Any) -> ir.Attr:
    """An attribute with other numbers in it."""
    if described == _describe_attribute(like):
        return like
    if like.type == ir.AttributeType.TENSOR:
        before = like.as_tensor()
        values = np.array(described[2], before.dtype.numpy()).reshape(before.shape.numpy())
        return ir.AttrTensor(like.name, ir.Tensor(values, dtype=before.dtype, name=before.name))
    return ir.Attr(like.name, like.type, described)


def _find_input(graph: ir.Graph, values: dict[str, ir.Value], like: ir.Value | None, name: Ref | None) -> ir.Value | None:
    """The value of that name; a weight that is not there yet is made like the one in whose place it stands."""
    if name is None or name in values:
        return None if name is None else values[name]
    if like is None or like.name not in graph.initializers:
        raise IrregularError(f"nothing makes {name}")
    value = ir.Value(name=str(name), shape=like.shape, type=like.type, const_value=like.const_value)
    graph.initializers.add(value)
    values[str(name)] = value
    return value


def _make_node(like: ir.Node, record: Record, inputs: Sequence[ir.Value | None]) -> ir.Node:
    """A node as a record says, with outputs of the types that those of `like` have."""
    attributes = [_make_attribute(old, new) for old, (_, new) in zip(like.attributes.values(), record[4], strict=True)]
    name, *made = record[0]
    outputs = [ir.Value(name=str(new), shape=value.shape, type=value.type) for value, new in zip(like.outputs, made, strict=True)]
    return ir.Node(
        like.domain,
        like.op_type,
        inputs,
        attributes,
        overload=like.overload,
        outputs=outputs,
        version=like.version,
        name=f"node_{like.op_type}_{name.removeprefix(COUNT)}" if name.startswith(COUNT) else str(name),
    )


def _highest(words: str, records: Iterable[Record]) -> int:
    """The largest number among names of these words."""
    numbers = (name.removeprefix(words) for record in records for name in record[0] if name.startswith(words))
    return max((int(number) for number in numbers if number.isdigit()), default=0)
