"""Which kernels of an engine compute which layers, and what of the engine's price is whose.

A table names the nodes of the graph that a kernel does; a node is a layer's where it reads the layer's weight, whose name every
rewrite keeps. The price of a kernel that multiplies by weights is its layers'. Of any other kernel

    what it writes for such products alone    is theirs, at so many bytes a second    (an input that is rounded, or stays wide)
    all else, and the launch                  is the last product's whose values it reads, be it through other kernels
                                              (what follows a product and could not join it)
So the price of a rounded layer holds what rounds its input and what its product could not take in, and can be held against that
of the same layer in a table of the network in float, where other kernels do other parts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sprint_export.nouns.work import Work
from sprint_export.planning.prices import Prices, price_kernel

NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")  # of a repeated module, e.g. the 3 of blocks.3.conv1

WEIGHT = re.compile(r"(.+?)\.weight(?=\.|$)")


@dataclass(frozen=True)
class LayerWork:
    """A kernel, and the layers whose weights its nodes read."""

    work: Work
    layers: tuple[str, ...] = ()

    @property
    def is_product(self) -> bool:
        """Whether it multiplies by a layer's weight."""
        return bool(self.work.flop and self.layers)


def label_kernels(kernels: Sequence[Work], graph: Path, layers: Collection[str]) -> tuple[LayerWork, ...]:
    """Kernels with their layers.

    Args:
        kernels: of a table that names nodes.
        graph: the ONNX file that was built.
        layers: all names that may be found.
    """
    owners = find_owners(graph, layers)
    return tuple(LayerWork(each, tuple(dict.fromkeys(owners[name] for name in each.nodes if name in owners))) for each in kernels)


def find_owners(graph: Path, layers: Collection[str]) -> dict[str, str]:
    """Names of the nodes that read a layer's weight, or what is made of it alone, with the layer.

    Of weights that a rewrite joined the first gives the name.
    """
    import onnx

    content, known = onnx.load(str(graph), load_external_data=False).graph, frozenset(layers)
    owned = {each.name: name for each in content.initializer if (name := _find_layer(each.name, known)) is not None}
    constant, owners = {each.name for each in content.initializer}, dict[str, str]()
    for node in content.node:
        owner = next((owned[name] for name in node.input if name in owned), None)
        if all(name in constant for name in node.input if name):
            constant |= set(node.output)
            owned |= {} if owner is None else dict.fromkeys(node.output, owner)
        if owner is not None:
            owners[node.name] = owner
    return owners


def _find_layer(initializer: str, layers: frozenset[str]) -> str | None:
    found = WEIGHT.match(initializer)
    return found[1] if found and found[1] in layers else None


def join_layers(kernels: Sequence[LayerWork], layers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Layers that kernels name -> those that their products compute too: of weights that were joined, all but the first.

    Args:
        kernels: of a table.
        layers: in module order; what none of them names was joined to one of its own kind before it (keys of all blocks), or to
            the kind before it (queries, keys and values).
    """
    named = {name for each in kernels for name in each.layers}
    kinds = [find_kind(layer) for layer in layers]
    with_names = {kind for layer, kind in zip(layers, kinds, strict=True) if layer in named}
    found: dict[str, tuple[str, ...]] = {}
    for place, layer in enumerate(layers):
        if layer in named:
            continue
        kind = next((each for each in reversed(kinds[: place + 1]) if each in with_names), None)
        first = next((each for each in reversed(layers[:place]) if each in named and find_kind(each) == kind), None)
        if first is not None:
            found[first] = (*found.get(first, ()), layer)
    return found


def find_kind(layer: str) -> str:
    """Its name with a `*` in place of the numbers of its modules."""
    return NUMBER.sub("*", f".{layer}")[1:]


def share_price(kernels: Sequence[LayerWork], prices: Prices, counts: Sequence[float] | None = None) -> dict[str, float]:
    """Milliseconds by layer, of those that kernels name.

    Args:
        kernels: of one table, in order.
        prices: of the device.
        counts: how often each kernel runs; default: once.
    """
    readers: dict[str, list[LayerWork]] = {}
    for each in kernels:
        for name in each.work.reads:
            readers.setdefault(name, []).append(each)
    found: dict[str, float] = {}

    def give(layers: Sequence[str], milliseconds: float) -> None:
        for name in layers:
            found[name] = found.get(name, 0.0) + milliseconds / len(layers)

    for place, (each, last) in enumerate(zip(kernels, _find_last_products(kernels), strict=True)):
        left, times = price_kernel(each.work, prices), 1.0 if counts is None else counts[place]
        for layers, size in () if each.is_product else _list_written(each.work, readers):
            share = min(left, size / (prices.gigabytes_per_s * 1e6) if prices.gigabytes_per_s else 0.0)
            give(layers, share * times)
            left -= share
        give(last, left * times)
    return found


def _find_last_products(kernels: Sequence[LayerWork]) -> list[tuple[str, ...]]:
    """Of each kernel the layers of the last product that it is, or that what it reads comes from."""
    makers: dict[str, tuple[int, tuple[str, ...]]] = {}
    found = []
    for place, each in enumerate(kernels):
        before = max((makers[name] for name in each.work.reads if name in makers), default=(-1, ()))
        place, last = (place, each.layers) if each.is_product else before
        found.append(last)
        makers |= dict.fromkeys(each.work.writes, (place, last))
    return found


def _list_written(work: Work, readers: Mapping[str, Sequence[LayerWork]]) -> Iterable[tuple[tuple[str, ...], float]]:
    """What is written for products alone."""
    for name, size in work.writes.items():
        behind = readers.get(name, ())
        if behind and all(each.is_product for each in behind):
            yield tuple(dict.fromkeys(layer for each in behind for layer in each.layers)), size
