"""A network for its kernels alone: equal blocks are left out, tables of words have few rows, weights are made up.

Kernels and bytes do not depend on values. Of a list of blocks that repeats, operator for operator (export/repeats.py), its first,
its last and two between stay; how often each kernel of the short network's engine runs in that of the whole is told by the blocks
whose layers it computes or reads from:

    one of the two between      half of all blocks but the first and the last
    layers of several blocks    as often as these on the average   (keys of all blocks in one product: it grows with them)
    all others                  once
Where a recipe rounds the blocks between in different ways none is left out; the last may be rounded as no other is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sprint_export.planning.layer_kernels import LayerWork

if TYPE_CHECKING:
    import torch

    from sprint_export.export.repeats import Repeat
    from sprint_export.nouns.recipe import QuantizedLayer
    from sprint_export.nouns.student import Component
    from sprint_export.weights import Handle

ROWS = 4096  # of a table of words: more than a prompt reads, and what is read is what counts
DEVIATION = 0.02  # of made-up weights
GROUPS = 4  # of a list's equal blocks stay, as a network is captured


@dataclass(frozen=True)
class Cut:
    """A short network, what was left out of it, and its rounded layers in module order -> their names in the whole one."""

    component: Component
    repeats: tuple[Repeat, ...]
    names: Mapping[str, str]


def cut_network(component: Component) -> Cut:
    """The network as it is built for its kernels."""
    import torch

    from sprint_export.export.repeats import list_weights, shorten
    from sprint_export.export.to_onnx.free_axes import make_example

    module, repeats = shorten(component.module, make_example(component.inputs)[0])
    if not all(_is_even(component.layers, repeat) for repeat in repeats):
        module, repeats = component.module, []
    for path, table in list(module.named_modules()):
        if isinstance(table, torch.nn.Embedding) and table.num_embeddings > ROWS:
            module = _replace(module, path, torch.nn.Embedding(ROWS, table.embedding_dim, device="meta"))
    shapes = {name: tuple(value.shape) for name, value in list_weights(module).items()}
    weights = {name: _make_up(name, handle, shapes[name]) for name, handle in component.weights.items() if name in shapes}
    short = [name for name, _ in module.named_modules() if f"{name}.weight" in weights]
    names = {name: whole for name in short if (whole := _find_whole(name, repeats)) in component.layers}
    layers = {name: component.layers[whole] for name, whole in names.items()}
    cut = replace(component, module=module, weights=weights, layers=layers, decisions=(), edits={}, forms={})
    return Cut(cut, tuple(repeats), names)


def _is_even(layers: Mapping[str, QuantizedLayer], repeat: Repeat) -> bool:
    """Whether all groups of blocks but the first and the last are rounded alike."""
    groups: list[dict[tuple[int, str], QuantizedLayer]] = [{} for _ in range(GROUPS + repeat.left_out)]
    for name, layer in layers.items():
        block = repeat.block_of([name])
        if block is not None:
            inside = name.removeprefix(f"{repeat.path}.{block}.")
            groups[block // repeat.size][block % repeat.size, inside] = layer
    return all(group == groups[1] for group in groups[1:-1])


def _find_whole(layer: str, repeats: Iterable[Repeat]) -> str:
    """The layer of the whole network that a short one's stands for: the last group's for those of its last."""
    for repeat in repeats:
        block = repeat.block_of([layer])
        if block is not None and block // repeat.size == GROUPS - 1:
            inside = layer.removeprefix(f"{repeat.path}.{block}.")
            return f"{repeat.path}.{block + repeat.left_out * repeat.size}.{inside}"
    return layer


def _replace(module: torch.nn.Module, path: str, part: torch.nn.Module) -> torch.nn.Module:
    """The module with one part in place of another; all else is shared."""
    changed = copy.copy(module)
    name, _, rest = path.partition(".")
    child: Any = module.get_submodule(name)
    changed._modules = dict(module._modules)
    changed._modules[name] = _replace(child, rest, part) if rest else part
    return changed


def _make_up(name: str, handle: Handle, shape: tuple[int, ...]) -> Handle:
    """Values like a weight's; whole numbers and single values stay what they are."""
    from sprint_export.weights import LazyHandle, repeated_handle

    if not handle.dtype.is_floating_point or math.prod(shape) <= 1:
        return handle
    values = repeated_handle(name, shape, DEVIATION)
    return LazyHandle(shape, handle.dtype, lambda: values.load().to(handle.dtype))


def count_runs(kernels: Sequence[LayerWork], repeats: Sequence[Repeat], joined: Mapping[str, Sequence[str]]) -> list[float]:
    """How often each kernel of a short network's engine runs in the whole one's.

    Args:
        kernels: of the short one, in order.
        repeats: what was left out.
        joined: layer -> those that its products compute too, though no kernel names them (layer_kernels.join_layers).
    """
    makers: dict[str, int] = {}
    found: list[frozenset[_Block]] = []
    for place, each in enumerate(kernels):
        named = [name for layer in each.layers for name in (layer, *joined.get(layer, ()))]
        own = frozenset(block for layer in named if (block := _find_block(layer, repeats)) is not None)
        if not each.layers:
            before = [found[makers[name]] for name in each.work.reads if name in makers]
            own = min((blocks for blocks in before if blocks), key=len, default=own)
        found.append(own)
        makers |= dict.fromkeys(each.work.writes, place)
    return [sum(block.runs for block in blocks) / len(blocks) if blocks else 1.0 for blocks in found]


@dataclass(frozen=True)
class _Block:
    """One block of a short list, and how many of the whole list it stands for."""

    path: str
    number: int
    runs: float


def _find_block(layer: str, repeats: Iterable[Repeat]) -> _Block | None:
    for repeat in repeats:
        number = repeat.block_of([layer])
        if number is not None:
            is_between = number // repeat.size in (1, 2)
            return _Block(repeat.path, number, 1 + repeat.left_out / 2 if is_between else 1.0)
    return None
