"""The operations of an ONNX file, from the shapes it declares; weights are not read.

Q and DQ are as they stand: a QuantizeLinear is an operation that writes few bits, a DequantizeLinear is part of whoever reads it,
and a product of two restored values multiplies in their type. What is made of weights alone is a weight. Free axes count as one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError, SprintExportError
from sprint_export.export.graph_memory import BITS, VIEWS
from sprint_export.planning.graph import Graph, Kind, Operation

if TYPE_CHECKING:
    import onnx

SMALL_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4}
COLUMNS = {"FLOAT": "fp32", "FLOAT16": "16-bit", "BFLOAT16": "16-bit", "INT8": "int8", "UINT8": "int8", "FLOAT8E4M3FN": "fp8"}
WIDEST_FIRST = ("fp32", "16-bit", "int8", "fp8")
CONVOLUTIONS = ("Conv", "QLinearConv", "ConvInteger")
PRODUCTS = ("MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "MatMulNBits", "FusedMatMul", "MatMulIntegerToFloat")
REDUCTIONS = ("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization", "GlobalAveragePool")


def read_graph(path: Path) -> Graph:
    """The graph of an ONNX file.

    Raises:
        BundleError: it is damaged.
    """
    try:
        return _read_model(path)
    except (MemoryError, SprintExportError):
        raise
    except Exception as error:  # protobuf's own kinds, and what names and shapes that fit nothing lead to
        said = " ".join(str(error).split())[:200]
        raise BundleError(f"{path} holds no graph that can be read ({said}); copy or export the bundle again") from error


def _read_model(path: Path) -> Graph:
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # of values without a shape; what it cannot tell is guessed
        model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    reader = _Reader(graph)
    for node in graph.node:
        reader.add(node)
    names = {name for operation in reader.operations for name in operation.reads} & set(reader.weights)
    outputs = frozenset(reader.root(value.name) for value in graph.output)
    return Graph(tuple(reader.operations), frozenset(names), outputs)


class _Reader:
    """Operations of a graph as its nodes are added, in order."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        import onnx

        self.operations: list[Operation] = []
        self.weights: dict[str, float] = {}  # bytes of what is there before
        self._roots: dict[str, str] = {}
        self._types: dict[str, str] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for value in (*graph.input, *graph.output, *graph.value_info):
            tensor = value.type.tensor_type
            self._types[value.name] = onnx.TensorProto.DataType.Name(tensor.elem_type)
            if tensor.HasField("shape"):
                self._shapes[value.name] = tuple(axis.dim_value or 1 for axis in tensor.shape.dim)
        for tensor in graph.initializer:
            self._types[tensor.name] = onnx.TensorProto.DataType.Name(tensor.data_type)
            self._shapes[tensor.name] = tuple(tensor.dims)
            self.weights[tensor.name] = self._size(tensor.name)

    def root(self, name: str) -> str:
        """The value that a name is another one for."""
        return self._roots.get(name, name)

    def add(self, node: onnx.NodeProto) -> None:
        """A node."""
        given = [name for name in node.input if name]
        if all(self.root(name) in self.weights for name in given):
            self._fix(node, given)
        elif node.op_type in VIEWS or node.op_type == "DequantizeLinear":
            self._roots[node.output[0]] = self.root(given[0])
            self._shapes.setdefault(node.output[0], self._shapes.get(given[0], ()))
        else:
            self._operate(node, given)

    def _fix(self, node: onnx.NodeProto, given: Sequence[str]) -> None:
        """What is made of weights alone is the largest of them."""
        for name in node.output:
            if given:
                largest = max(given, key=lambda each: self.weights[self.root(each)])
                self._roots[name] = self.root(largest)
                self._shapes.setdefault(name, self._shapes.get(largest, ()))
            else:
                self.weights[name] = self._size(name)

    def _operate(self, node: onnx.NodeProto, given: Sequence[str]) -> None:
        for name in node.output:
            if name and name not in self._shapes:
                self._shapes[name] = self._guess_shape(node, given)
                self._types.setdefault(name, self._types.get(given[0], ""))
        writes = {name: self._size(name) for name in node.output if name}
        flop, operands = self._multiply(node)
        if node.op_type in ("Gather", "GatherND"):
            reads = {self.root(name): min(sum(writes.values()), self._size(self.root(name))) for name in given}
        else:
            reads = {self.root(name): self._size(self.root(name)) for name in given}
        dtype = self._find_type(operands) if flop else ""
        self.operations.append(Operation(node.name or node.op_type, _kind(node.op_type, flop), reads, writes, flop, dtype))

    def _guess_shape(self, node: onnx.NodeProto, given: Sequence[str]) -> tuple[int, ...]:
        """Of a product [..., M, K] x [K, N]; of anything else the largest input's."""
        shapes = [self._shapes.get(name, ()) for name in given]
        if node.op_type in PRODUCTS and len(shapes) > 1 and shapes[0] and shapes[1]:
            return (*shapes[0][:-1], shapes[1][-1])
        return max(shapes, key=math.prod, default=())

    def _multiply(self, node: onnx.NodeProto) -> tuple[float, tuple[str, ...]]:
        """FLOP of a product or a dense convolution, and what is multiplied."""
        attributes = {each.name: each for each in node.attribute}
        out = math.prod(self._shapes.get(node.output[0], (0,)))
        if node.op_type == "Attention":
            (*_, rows, width), (*_, keys, _) = self._shapes.get(node.input[0], (0, 0)), self._shapes.get(node.input[1], (0, 0))
            heads = math.prod(self._shapes.get(node.input[0], (0, 0))[:-2])
            return 4.0 * heads * rows * width * keys, tuple(node.input[:3])
        if node.op_type in CONVOLUTIONS:
            data, weight = (node.input[0], node.input[3 if node.op_type == "QLinearConv" else 1])
            if "group" in attributes and attributes["group"].i > 1:
                return 0.0, ()
            return 2.0 * out * math.prod(self._shapes.get(weight, (0,))[1:]), (data, weight)
        if node.op_type in PRODUCTS:
            inner = attributes["K"].i if "K" in attributes else self._inner(node, attributes)
            return 2.0 * out * inner, tuple(node.input[:1] if "K" in attributes else node.input[:2])
        return 0.0, ()

    def _inner(self, node: onnx.NodeProto, attributes: Mapping[str, Any]) -> int:
        """The length of the sums."""
        shape = self._shapes.get(node.input[0], ())
        turned = "transA" in attributes and attributes["transA"].i
        return shape[-2 if turned else -1] if len(shape) > 1 else 0

    def _find_type(self, names: Sequence[str]) -> str:
        """The widest that is multiplied; weights of 4 bits are restored to the other's type."""
        found = {COLUMNS.get(self._types.get(self.root(name), ""), "") for name in names}
        return next((kind for kind in WIDEST_FIRST if kind in found), "fp32")

    def _size(self, name: str) -> float:
        kind = self._types.get(name, "")
        return math.prod(self._shapes.get(name, (0,))) * SMALL_BITS.get(kind, BITS.get(kind, 8)) / 8


def _kind(op: str, flop: float) -> Kind:
    if flop:
        return "product"
    if op == "Softmax":
        return "softmax"
    return "reduction" if op.startswith("Reduce") or op in REDUCTIONS else "pointwise"
