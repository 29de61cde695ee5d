"""The operations of a specialized network, counted on `meta`: no weight is loaded, and nothing is computed.

Every operator of torch that is no view is one operation: it reads and writes values, and has torch's own count of FLOP where it
is a matrix product or a dense convolution. A depthwise convolution has few products a value and is counted by its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sprint_export.nouns.student import Component
from sprint_export.planning.graph import Kind

aten = torch.ops.aten
NORMS = {aten.native_layer_norm, aten.native_group_norm, aten.var_mean, aten.linalg_vector_norm}
REDUCTIONS = {aten.mean, aten.sum, aten.amax, *NORMS}
SOFTMAX = {aten._softmax}
GATHERS = {aten.embedding, aten.index_select, aten.index}  # only the rows that come out are read
NOTHING = {aten.zeros, aten.lift_fresh, aten.empty, aten.detach}  # inputs and constants, which are there


@dataclass(frozen=True)
class Traced:
    """One operator: values by number, with how many are read or written; `weights` by name, with the values that are read."""

    name: str
    kind: Kind
    reads: Mapping[int, int]
    weights: Mapping[str, int]
    writes: Mapping[int, int]
    flop: int


@dataclass(frozen=True)
class Trace:
    """One prompt through one network: its operators in order, and the values that come out."""

    operators: tuple[Traced, ...]
    outputs: frozenset[int]
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # weights' names -> shapes


def trace_network(component: Component) -> Trace:
    """Run a specialized network on the `meta` device and note what it does."""
    module = component.module
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    weights = {value.untyped_storage()._cdata: name for name, value in named.items()}
    tracer = _Tracer(weights)
    hooks = [hook for name, part in module.named_modules() for hook in _listen(part, name, tracer.path)]
    inputs = [
        torch.zeros([int(size) for size in spec.shape], dtype=getattr(torch, spec.dtype), device="meta")
        for spec in component.inputs
    ]
    try:
        with torch.no_grad(), tracer:
            result = module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = frozenset(tracer.number(value) for value in _tensors(result))
    shapes = {name: tuple(handle.shape) for name, handle in component.weights.items()}
    return Trace(tuple(tracer.operators), outputs, shapes)


def _listen(part: torch.nn.Module, name: str, path: list[str]) -> tuple[Any, Any]:
    """Hooks that keep `path` the names of the modules that are being run."""

    def enter(*_: Any) -> None:
        path.append(name)

    def leave(*_: Any) -> None:
        path.pop()

    return part.register_forward_pre_hook(enter), part.register_forward_hook(leave)


class _Tracer(TorchDispatchMode):
    """Notes every operator that runs within; `path` are the modules that it runs in."""

    def __init__(self, weights: Mapping[int, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.operators: list[Traced] = []
        self.path: list[str] = [""]
        self._weights = weights
        self._numbers: dict[int, int] = {}
        self._held: list[torch.Tensor] = []  # a storage's address names a value for as long as it is held

    def number(self, tensor: torch.Tensor) -> int:
        """Of the value that a tensor is, or is a view of."""
        key = tensor.untyped_storage()._cdata
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._held.append(tensor)
        return self._numbers[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view and func.overloadpacket not in NOTHING:
            self._note(func, args, kwargs, result)
        return result

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        packet = func.overloadpacket
        written = {self.number(value): _count(value) for value in _tensors(result)}
        most = sum(written.values()) if packet in GATHERS else None
        reads: dict[int, int] = {}
        weights: dict[str, int] = {}
        for value in _tensors([args, kwargs]):
            count = _count(value) if most is None else min(most, _count(value))
            name = self._weights.get(value.untyped_storage()._cdata)
            if name is not None:
                weights[name] = max(count, weights.get(name, 0))
            else:
                reads[self.number(value)] = max(count, reads.get(self.number(value), 0))
        flop = _count_flop(packet, args, kwargs, result)
        self.operators.append(Traced(self._name(weights, flop), _kind(packet, flop), reads, weights, written, flop))

    def _name(self, weights: Mapping[str, int], flop: int) -> str:
        """Of a product the layer that its weight is of, else the innermost module."""
        if flop and weights:
            return max(weights, key=lambda name: weights[name]).rpartition(".")[0]
        return self.path[-1] or "(network)"


def _count_flop(packet: Any, args: tuple[Any, ...], kwargs: Any, result: Any) -> int:
    """Of a product or a dense convolution; 0 of everything else."""
    formula = flop_registry.get(packet)
    if formula is None or (packet is aten.convolution and args[8] != 1):  # groups
        return 0
    return int(formula(*args, **kwargs, out_val=result))


def _kind(packet: Any, flop: int) -> Kind:
    if flop:
        return "product"
    if packet in SOFTMAX:
        return "softmax"
    return "reduction" if packet in REDUCTIONS else "pointwise"


def _count(value: torch.Tensor) -> int:
    """Values that are there: an expanded tensor has fewer than its shape says."""
    return min(value.numel(), math.ceil(value.untyped_storage().nbytes() / value.element_size()))


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
