"""Projections of one tensor become one product.

    x W_1, x W_2, ...  =  split(x [W_1 W_2 ...])
Biases that every one of them adds are joined too. TensorRT for RTX merges FP8 products by itself but not what follows them;
after one product it makes one kernel of all biases, norms and activations (17 us in place of 50 for Q, K and V of 1024 tokens,
docs/decisions/0009-rtx-kernels.md). INT8 products it does not merge at all.

Covered: MatMul by a dequantized initializer [K, N], scales per output channel or per tensor. Weights are joined lazily, so none
is pulled. Not covered: products whose weights or scales differ in type; weights in blocks, which the multiplying kernel unpacks;
16-bit products, whose bias the builder fuses only where they stand alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sprint_export.export.to_onnx.graph_editor import GraphEditor, extent, is_constant, maker, only_user, shape_of
from sprint_export.export.to_onnx.passes import remove_unused
from sprint_export.export.to_onnx.rule import Rule
from sprint_export.export.to_onnx.tensors import sizes

MOST = 8  # pieces of one product: of the text's 56 pieces the builder no longer fused the norms, of 8 it does


@dataclass(frozen=True)
class _Projection:
    """A MatMul, its weight [K, N] as it is stored, the DequantizeLinear between them and the Add of a bias [N] after it."""

    product: ir.Node
    weight: ir.Value
    dequantize: ir.Node
    bias: ir.Node | None

    @property
    def width(self) -> int:
        return extent(self.weight, 1)

    @property
    def output(self) -> ir.Value:
        return (self.bias or self.product).outputs[0]


class MergedProjections(Rule):
    """Every group of two or more projections; by hand, since a group has any number of them."""

    def apply(self, model: ir.Model) -> int:
        """One product in place of each group."""
        groups: dict[tuple[str, ...], list[_Projection]] = defaultdict(list)
        for projection in filter(None, map(_read, model.graph)):
            groups[_kind(projection)].append(projection)
        parts = [members[i : i + MOST] for members in groups.values() for i in range(0, len(members), MOST)]
        merged = [_merge(model.graph, part) for part in parts if len(part) > 1]
        remove_unused(model)
        return len(merged)


def _read(node: ir.Node) -> _Projection | None:
    dequantize = maker(node.inputs[1], "DequantizeLinear") if node.op_type == "MatMul" else None
    weight = None if dequantize is None else dequantize.inputs[0]
    if dequantize is None or weight is None or not is_constant(weight) or "block_size" in dequantize.attributes:
        return None
    if len(shape_of(weight)) != 2 or len(weight.uses()) != 1:
        return None
    add = only_user(node.outputs[0], "Add")
    has_bias = add is not None and any(is_constant(v) and shape_of(v) == shape_of(weight)[1:] for v in add.inputs)
    return _Projection(node, weight, dequantize, add if has_bias else None)


def _kind(projection: _Projection) -> tuple[str, ...]:
    """What must agree for two projections to be joined: input, types, and whether there is a bias."""
    source, scale = projection.product.inputs[0], projection.dequantize.inputs[1]
    assert source is not None and scale is not None
    return str(source.name), str(projection.weight.dtype), str(scale.dtype), str(projection.bias is not None)


def _merge(graph: ir.Graph, members: Sequence[_Projection]) -> ir.Value:
    first = members[0]
    source, name, widths = first.product.inputs[0], f"{first.weight.name}.merged", [member.width for member in members]
    op = GraphEditor(graph, first.product, name)
    weight = op.constant(_join([member.weight for member in members], widths), name)
    scale, zero = (op.constant(_join([member.dequantize.inputs[i] for member in members], widths)) for i in (1, 2))
    value = op.MatMul(source, op.DequantizeLinear(weight, scale, zero, _dtype=scale.dtype, axis=1))
    if first.bias is not None:
        biases = [next(v for v in member.bias.inputs if is_constant(v)) for member in members if member.bias is not None]
        value = op.Add(value, op.constant(_join(biases, widths)))
    for member, piece in zip(members, op.split(value, widths), strict=True):
        ir.convenience.replace_all_uses_with(member.output, piece)
    return value


def _join(values: Sequence[ir.Value | None], widths: Sequence[int]) -> ir.LazyTensor:
    """Constants side by side along their last axis; one number for all columns is repeated for each."""
    tensors = [value.const_value for value in values if value is not None and value.const_value is not None]
    first = tensors[0]

    def compute() -> ir.TensorProtocol:
        arrays = [tensor.numpy() for tensor in tensors]
        wide = [np.broadcast_to(array, (*array.shape[:-1], width)) for array, width in zip(arrays, widths, strict=True)]
        return ir.Tensor(np.concatenate(wide, axis=-1), dtype=first.dtype)

    return ir.LazyTensor(compute, dtype=first.dtype, shape=ir.Shape([*sizes(first)[:-1], sum(widths)]))


RULE = MergedProjections
