"""What PyTorch computes at the blocks of a network: told one at a time while it runs, so that nothing is kept whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.hooks import RemovableHandle

from sprint_export.compute import Compute
from sprint_export.nouns.student import Component
from sprint_export.quantize.torch_session import TorchSession

Array = npt.NDArray[Any]
Tell = Callable[[str, Array], None]
Shapes = dict[str, tuple[int, ...]]  # by block, in the order they run


def list_shapes(component: Component, feeds: Mapping[str, Array], paths: Iterable[str]) -> Shapes:
    """Shapes of what modules give that run exactly once, found on the `meta` device; several of one are numbered.

    A module that is never called itself, because its parts are, stands for those with weights.
    """
    found: dict[str, list[Shapes]] = {}

    def note(path: str, result: Any) -> None:
        found.setdefault(path, []).append({name: tuple(value.shape) for name, value in _name_values(path, result)})

    inputs = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])).to("meta") for spec in component.inputs]
    hooks = _hook(component.module, [name for name, _ in component.module.named_modules()], note)
    try:
        with torch.no_grad():
            component.module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    chosen = {called for path in paths for called in _find_called(component.module, path, found)}
    return {name: shape for path in found if path in chosen for name, shape in found[path][0].items()}


def _find_called(network: torch.nn.Module, path: str, found: Mapping[str, list[Shapes]]) -> list[str]:
    if path in found:
        return [path] if len(found[path]) == 1 else []
    children = network.get_submodule(path).named_children()
    held = [f"{path}.{name}" for name, child in children if next(child.parameters(), None) is not None]
    return [called for child in held for called in _find_called(network, child, found)]


@dataclass(frozen=True)
class TorchSide:
    """A network in torch, rounded by its layers, all other weights to `dtype`; large weights are loaded when they are needed.

    Args:
        component: specialized; in float32 where it has no layers and `dtype` is "fp32".
        dtype: "fp32", "fp16" or "bf16".
        compute: where it runs.
    """

    component: Component
    dtype: str
    compute: Compute

    def run(self, feeds: Mapping[str, Array], shapes: Iterable[str], tell: Tell) -> tuple[dict[str, Array], str]:
        """Inputs by name -> outputs by name, and what it ran on; `tell` is told of each of these values when it is there."""
        session = TorchSession(self.component, fake=True, dtype=self.dtype, compute=self.compute)
        wanted = set(shapes)
        paths = {name.partition("[")[0] for name in wanted}

        def note(path: str, result: Any) -> None:
            for name, value in _name_values(path, result):
                if name in wanted:
                    tell(name, value.detach().float().cpu().numpy())

        while True:  # again where the network went to another device meanwhile: a copy without hooks
            module, hooks = session.module, _hook(session.module, paths, note)
            try:
                outputs = session.run(feeds)
            finally:
                for hook in hooks:
                    hook.remove()
            if session.module is module:
                return outputs, session.description


def _hook(network: torch.nn.Module, paths: Iterable[str], note: Callable[[str, Any], None]) -> list[RemovableHandle]:
    return [
        network.get_submodule(path).register_forward_hook(lambda _, __, result, path=path: note(path, result)) for path in paths
    ]


def _name_values(path: str, result: Any) -> list[tuple[str, torch.Tensor]]:
    """The floating-point tensors that a module gives: its path, with a number where it gives several."""
    several = isinstance(result, tuple | list)
    values = enumerate(result) if several else [(0, result)]
    tensors = [(i, value) for i, value in values if isinstance(value, torch.Tensor) and value.is_floating_point()]
    return [(f"{path}[{i}]" if several else path, value) for i, value in tensors]
