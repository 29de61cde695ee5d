"""What one run of a network asks of a machine, counted operator by operator on the `meta` device: no weight is loaded.

    products      2 m n k of every matrix product, 2 |output| |filter| of every dense convolution, as torch.utils counts them
    bytes         read and written by every operator that is no view; `cached` where its result is small and stays in caches
    live          the most bytes that results hold at once, each from its operator until its last user lets go
A depthwise convolution has few products a value and is counted by its bytes. Operators are those of the specialized module: what
it does twice is counted twice, what a fold removed is not counted.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sprint_export.nouns.student import Component
from sprint_export.quantize.measure.streaming import LISTENED, watch_shapes

CACHED = 1 << 20  # bytes of a result: below, the allocator gives the same memory again (weights.free_large_tensors_at_once)


@dataclass(frozen=True)
class Count:
    """One prompt through one network. `matmul` and `conv` in FLOP (a multiply-add is two), memory in bytes of float32.

    `heard` is what calibration looks at: bytes of the inputs of all Linear and Conv2d layers, `channels` how many these have
    together. Weights: `values` of all, and `largest` of one tensor.
    """

    matmul: int
    conv: int
    moved: int
    cached: int
    live: int
    operators: int
    heard: int
    channels: int
    values: int
    largest: int


def count_network(component: Component) -> Count:
    """Of a specialized network, for one prompt."""
    heard: list[tuple[int, int]] = []

    def note(_: str, layer: torch.nn.Module, inputs: tuple[Any, ...], __: Any) -> None:
        if isinstance(layer, LISTENED):
            heard.append((inputs[0].nbytes, layer.weight.shape[1] * getattr(layer, "groups", 1)))

    with _Counter() as counter:
        watch_shapes(component, note)
    sizes = [math.prod(handle.shape) for handle in component.weights.values()]
    return Count(
        matmul=counter.matmul,
        conv=counter.conv,
        moved=counter.moved,
        cached=counter.cached,
        live=counter.most_live,
        operators=counter.operators,
        heard=sum(size for size, _ in heard),
        channels=sum(channels for _, channels in heard),
        values=sum(sizes),
        largest=max(sizes, default=0),
    )


class _Counter(TorchDispatchMode):
    """Sums over all operators that run within."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
        self.matmul = self.conv = self.moved = self.cached = self.operators = self.most_live = 0
        self._live: dict[int, int] = {}  # storage -> tensors that hold it
        self._live_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            self._hold(tensor)
        if func.is_view:
            return result
        self.operators += 1
        size = sum(tensor.nbytes for tensor in _tensors([args, kwargs, result]))
        if sum(tensor.nbytes for tensor in _tensors(result)) < CACHED:
            self.cached += size
        else:
            self.moved += size
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            is_conv = func.overloadpacket is torch.ops.aten.convolution
            if not is_conv:
                self.matmul += formula(*args, **kwargs, out_val=result)
            elif args[8] == 1:  # groups: a depthwise convolution is bound by what it moves
                self.conv += formula(*args, **kwargs, out_val=result)
        return result

    def _hold(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._live:
            self._live_bytes += size
            self.most_live = max(self.most_live, self._live_bytes)
        self._live[key] = self._live.get(key, 0) + 1
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._live[key] -= 1
        if not self._live[key]:
            del self._live[key]
            self._live_bytes -= size


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
