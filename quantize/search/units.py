"""The layers of a search: what is measured together, what it costs, and the rules that say what was chosen.

A layer's kind is its name with `*` in place of numbers: the same layer of every block. Rules name a kind where all of its layers
got the same, single layers elsewhere, and end with what most weights got.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import QuantizedLayer, Rule
from sprint_export.nouns.student import Student
from sprint_export.quantize.patterns import FLOAT, list_layers
from sprint_export.quantize.search.costs import find_shape

Layers = Mapping[str, QuantizedLayer]  # by role.module
Price = Callable[[str, QuantizedLayer | None], int]  # of a layer rounded so, or in float


@dataclass(frozen=True)
class Unit:
    """A layer, or all layers of a kind where they were measured together: what was chosen; cost and error by precision."""

    name: str
    layers: tuple[str, ...]
    values: int
    precision: str
    costs: Mapping[str, int]
    errors: dict[str, float]

    def give(self, precision: str) -> Unit:
        """The same with this precision chosen."""
        return dataclasses.replace(self, precision=precision)


def kind_of(layer: str) -> str:
    """`transformer.transformer_blocks.3.attn1.to_out.0` -> `transformer.transformer_blocks.*.attn1.to_out.*`."""
    return ".".join("*" if part.isdigit() else part for part in layer.split("."))


def gather_layers(quantized: Student) -> dict[str, QuantizedLayer]:
    """The quantized layers of all networks by `role.module`."""
    return {f"{role}.{name}": how for role, component in quantized.components.items() for name, how in component.layers.items()}


def make_units(
    student: Student, offered: Mapping[str, Layers], bound: int | None, price: Price
) -> tuple[list[Unit], tuple[str, ...]]:
    """Layers, or with more than `bound` layer x precision pairs kinds, with their costs; and what to say about it.

    `offered` says by precision how it rounds every layer.

    Raises:
        InputError: kinds are still too many.
    """
    layers = tuple(next(iter(offered.values())))
    is_by_kind = bound is not None and len(layers) * len(offered) > bound
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(kind_of(layer) if is_by_kind else layer, []).append(layer)
    if bound is not None and len(groups) * len(offered) > bound:
        raise InputError(
            f"max_measurements={bound}: even with layers of a kind taken together, {len(groups)} kinds in {len(offered)} "
            f"precisions are {len(groups) * len(offered)} measurements; allow that many, or offer fewer precisions"
        )
    note = (
        f"{len(layers)} layers were measured as {len(groups)} kinds, and all layers of a kind get one precision: "
        f"{len(layers) * len(offered)} measurements are more than {bound}"
    )
    return [_make_unit(student, offered, price, *group) for group in groups.items()], (note,) if is_by_kind else ()


def _make_unit(student: Student, offered: Mapping[str, Layers], price: Price, name: str, layers: Sequence[str]) -> Unit:
    """Nothing measured but float, nothing chosen. The order of precisions is the order in which equally good ones are taken."""
    costs = {choice: sum(price(layer, how[layer]) for layer in layers) for choice, how in offered.items()}
    costs[FLOAT] = sum(price(layer, None) for layer in layers)
    values = sum(math.prod(find_shape(student, layer)) for layer in layers)
    return Unit(name, tuple(layers), values, FLOAT, costs, {FLOAT: 0.0})


def write_rules(student: Student, units: Sequence[Unit], rest: str) -> tuple[Rule, ...]:
    """Rules that give every layer what its unit chose; reasons are the errors measured, and `rest` for the last rule."""
    chosen = {layer: unit for unit in units for layer in unit.layers}
    most = _find_most(student, chosen)
    rules: dict[str, Rule] = {}
    for layer, unit in chosen.items():
        if unit.precision != most:
            kind = kind_of(layer)
            alike = [other for name, other in chosen.items() if fnmatchcase(name, kind)]
            is_shared = all(other.precision == unit.precision for other in alike)
            pattern, members = (kind, alike) if is_shared else (layer, [unit])
            rules.setdefault(pattern, Rule(pattern, unit.precision, _explain(members)))
    last = Rule("*", most, rest)
    return (*rules.values(), last)


def _find_most(student: Student, chosen: Mapping[str, Unit]) -> str:
    """The catch-all's precision: that of the most values, but float where an embedding is: no rule can name one for float."""
    embeddings = [name for name, layer in list_layers(student) if isinstance(layer, torch.nn.Embedding)]
    if any(chosen[name].precision == FLOAT for name in embeddings if name in chosen):
        return FLOAT
    values = Counter[str]()
    for unit in {unit.name: unit for unit in chosen.values()}.values():
        values[unit.precision] += unit.values
    return max(values, key=lambda precision: values[precision])


def _explain(units: Sequence[Unit]) -> str:
    distinct = {unit.name: unit for unit in units}.values()
    sums = {p: sum(unit.errors[p] for unit in distinct) for p in units[0].errors if p != FLOAT}
    decibels = {p: 10 * math.log10(4 / max(error, 1e-10)) for p, error in sums.items()}  # of pictures in [-1, 1]
    return "PSNR of pictures with this alone rounded: " + ", ".join(f"{p} {db:.1f} dB" for p, db in decibels.items())
