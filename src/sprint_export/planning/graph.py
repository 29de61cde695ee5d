"""A network as operations on values, and the kernels that a compiler would make of them.

    product       a matrix product or a dense convolution: a kernel of its own; what follows value by value joins it
    pointwise     one value out for one in (a sum, an activation, a rounding, a copy): joins the kernel that made its input
    reduction     sums over an axis (a norm, a softmax): begins a kernel, which pointwise operations and other reductions join
An operation joins the last kernel among those that made its inputs, and none before it, so that kernels stay in an order. A
softmax between two products is one kernel with both, where nobody else reads the scores. A kernel reads what it did not make,
once, and writes what others read. That is what TensorRT's and Inductor's fusions come to; benchmarks/plan_measured.py holds the
kernels and bytes against a builder's own table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sprint_export.nouns.work import Work

Kind = Literal["product", "pointwise", "reduction", "softmax"]


@dataclass(frozen=True)
class Operation:
    """One operator: where it is, what it reads (a value's name -> bytes) and writes, FLOP and the type it multiplies in."""

    name: str
    kind: Kind
    reads: Mapping[str, float]
    writes: Mapping[str, float]
    flop: float = 0.0
    dtype: str = ""


@dataclass(frozen=True)
class Graph:
    """Operations in an order that they can run in; `weights` are values that are there before, `outputs` those that stay."""

    operations: tuple[Operation, ...]
    weights: frozenset[str]
    outputs: frozenset[str]


@dataclass
class _Kernel:
    """Operations that run as one."""

    operations: list[Operation] = field(default_factory=list)

    @property
    def made(self) -> set[str]:
        return {name for each in self.operations for name in each.writes}

    @property
    def begins_with(self) -> Kind:
        return self.operations[0].kind

    def takes(self, operation: Operation) -> bool:
        """Whether an operation that reads what this kernel made can be part of it."""
        if operation.kind == "product":
            return False
        if self.begins_with == "product":
            size = sum(self.operations[0].writes.values())
            return operation.kind == "pointwise" and _is_alike(sum(operation.writes.values()), size)
        return True


def _is_alike(written: float, product: float) -> bool:
    """Whether as many values are written, in a type half or twice as wide at most."""
    return product / 2.01 <= written <= 2.01 * product


def list_kernels(graph: Graph) -> tuple[tuple[Work, ...], int]:
    """The kernels that a compiler makes of a graph, in order, and the most bytes that values between them hold at once."""
    kernels = _join_attentions(_fuse(graph), graph)
    last: dict[str, int] = {}  # a value -> the last kernel that reads it
    for i, kernel in enumerate(kernels):
        last |= dict.fromkeys({name for each in kernel.operations for name in each.reads} - kernel.made, i)
    return tuple(_weigh(kernel, last, graph.outputs) for kernel in kernels), _count_live(kernels, last, graph)


def _count_live(kernels: Sequence[_Kernel], last: Mapping[str, int], graph: Graph) -> int:
    """A value is held from its kernel to its last reader; inputs from the start, outputs to the end."""
    sizes = {name: size for kernel in kernels for each in kernel.operations for name, size in each.writes.items()}
    ends: dict[int, list[str]] = {}
    for name, place in last.items():
        if name in sizes and name not in graph.outputs:
            ends.setdefault(place, []).append(name)
    now = most = 0.0
    for i, kernel in enumerate(kernels):
        now += sum(sizes[name] for name in kernel.made if name in last or name in graph.outputs)
        most = max(most, now)
        now -= sum(sizes[name] for name in ends.get(i, ()))
    return round(most)


def _fuse(graph: Graph) -> list[_Kernel]:
    kernels: list[_Kernel] = []
    maker: dict[str, int] = {}  # a value -> its kernel's place
    for operation in graph.operations:
        places = [maker[name] for name in operation.reads if name in maker]
        place = max(places, default=-1)
        if place < 0 or not kernels[place].takes(operation):
            kernels.append(_Kernel())
            place = len(kernels) - 1
        kernels[place].operations.append(operation)
        maker.update(dict.fromkeys(operation.writes, place))
    return kernels


def _join_attentions(kernels: list[_Kernel], graph: Graph) -> list[_Kernel]:
    """Product, softmax and product as one kernel, where scores have no other reader."""
    maker = {name: i for i, kernel in enumerate(kernels) for name in kernel.made}
    readers: dict[int, set[int]] = {}
    for i, kernel in enumerate(kernels):
        for name in {name for each in kernel.operations for name in each.reads} - kernel.made:
            if name in maker:
                readers.setdefault(maker[name], set()).add(i)
    gone: set[int] = set()
    for i, kernel in enumerate(kernels):
        if not any(each.kind == "softmax" for each in kernel.operations) or kernel.made & graph.outputs:
            continue
        before = {maker[name] for each in kernel.operations for name in each.reads if name in maker} - {i}
        scores = [place for place in before if readers[place] == {i} and kernels[place].begins_with == "product"]
        after = readers.get(i, set())
        if len(scores) == 1 and len(after) == 1 and kernels[last := next(iter(after))].begins_with == "product":
            kernels[last].operations[:0] = [*kernels[scores[0]].operations, *kernel.operations]
            gone |= {scores[0], i}
    return [kernel for i, kernel in enumerate(kernels) if i not in gone]


def _weigh(kernel: _Kernel, last: Mapping[str, int], outputs: frozenset[str]) -> Work:
    """Bytes: what the kernel did not make, once, as much of it as is read; and what others read of what it made."""
    made = kernel.made
    read: dict[str, float] = {}
    written: dict[str, float] = {}
    for operation in kernel.operations:
        for name, size in operation.reads.items():
            if name not in made:
                read[name] = max(size, read.get(name, 0.0))
        written.update({name: size for name, size in operation.writes.items() if name in last or name in outputs})
    products = [each for each in kernel.operations if each.kind == "product"]
    named = max(products or kernel.operations, key=lambda each: each.flop)
    flop = sum(each.flop for each in products)
    return Work(named.name, flop, named.dtype if flop else "", sum(read.values()) + sum(written.values()))
