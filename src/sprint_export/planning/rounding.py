"""A trace as a graph in a target's types: weights as their schemes store them, inputs of layers that are rounded in few bits.

What rounds an input is an operation of its own, between the value and the layers that read it so: it joins the kernel that makes
the value, which then writes few bits in place of many, or beside them where others read it whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.planning.graph import Graph, Operation
from sprint_export.planning.operators import Trace, Traced
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.weight_bytes import count_layer_bytes, count_value_bytes, find_column


def lay_out(trace: Trace, layers: Mapping[str, QuantizedLayer], dtype: str, kinds: Collection[str]) -> Graph:
    """The graph of a network.

    Args:
        trace: of it.
        layers: by module, how each is rounded; the others are float.
        dtype: what the graph computes in: "fp32", "fp16" or "bf16".
        kinds: types that the device multiplies in; what it has no units for is multiplied in the graph's type.
    """
    rounder = _Rounder(trace, layers, dtype, kinds)
    for operator in trace.operators:
        rounder.add(operator)
    names = {name for operation in rounder.operations for name in operation.reads if name in trace.layers}
    return Graph(tuple(rounder.operations), frozenset(names), frozenset(map(_name, trace.outputs)))


class _Rounder:
    """Operations of a trace as they are added, with what rounds their inputs before them."""

    def __init__(self, trace: Trace, layers: Mapping[str, QuantizedLayer], dtype: str, kinds: Collection[str]) -> None:
        self.operations: list[Operation] = []
        self._shapes, self._layers, self._kinds = trace.layers, layers, kinds
        self._size, self._column = count_value_bytes(dtype), find_column(dtype)
        self._rounded: set[str] = set()

    def add(self, operator: Traced) -> None:
        """An operator."""
        layer = self._layers.get(operator.name) if operator.flop else None
        reads = {_name(key): float(values * self._size) for key, values in operator.reads.items()}
        column = self._column
        inputs = None if layer is None else load_scheme(layer.scheme).inputs
        if inputs is not None:
            kind, share = inputs.format.name, inputs.format.bits / 8 / self._size
            reads = dict(self._round(operator.name, name, size, share, kind) for name, size in reads.items())
            column = kind if kind in self._kinds else column
        reads |= {name: self._weigh(name, values) for name, values in operator.weights.items()}
        writes = {_name(key): float(values * self._size) for key, values in operator.writes.items()}
        self.operations.append(Operation(operator.name, operator.kind, reads, writes, operator.flop, column))

    def _round(self, reader: str, name: str, size: float, share: float, kind: str) -> tuple[str, float]:
        """The rounded form of a value, made where nobody has made it yet."""
        rounded = f"{name} in {kind}"
        if rounded not in self._rounded:
            self._rounded.add(rounded)
            self.operations.append(Operation(f"{reader} (its input rounded)", "pointwise", {name: size}, {rounded: size * share}))
        return rounded, size * share

    def _weigh(self, name: str, values: int) -> float:
        """Bytes that are read of a weight; of a table of words, rows."""
        shape, layer = self._shapes.get(name), self._layers.get(name.removesuffix(".weight"))
        if shape is None or layer is None:
            return float(values * self._size)
        whole = 1
        for axis in shape:
            whole *= axis
        return count_layer_bytes(shape, layer, self._size) * min(1.0, values / whole)


def _name(key: int) -> str:
    return f"value {key}"
