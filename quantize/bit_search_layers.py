"""The layers of a bit search: what is measured together, what it takes, and the rules that say what was chosen.

A layer's kind is its name with `*` in place of numbers: the same layer of every block. Rules name a kind where all of its layers
got the same, single layers elsewhere, and end with what most weights got.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from sprint_export.errors import InputError
from sprint_export.quantize.bit_search_sizes import layer_bytes
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.student import quantize_student
from sprint_export.schema import QuantizedLayer, Recipe, Rule, Student, Target

Layers = Mapping[str, QuantizedLayer]  # by role.module


@dataclass(frozen=True)
class LayerBits:
    """A layer, or all layers of a kind where they were measured together: what was chosen; bytes and error by precision."""

    name: str
    layers: tuple[str, ...]
    precision: str
    bytes: Mapping[str, int]
    errors: Mapping[str, float]

    @property
    def role(self) -> str:
        """The network it belongs to."""
        return self.name.partition(".")[0]


def kind_of(layer: str) -> str:
    """`transformer.transformer_blocks.3.attn1.to_out.0` -> `transformer.transformer_blocks.*.attn1.to_out.*`."""
    return ".".join("*" if part.isdigit() else part for part in layer.split("."))


def round_layers(student: Student, target: Target, recipe: Recipe) -> dict[str, QuantizedLayer]:
    """How a recipe of weight-only precisions rounds each layer, by `role.module`, as the exporter will."""
    precision = next(name for name in target.graph_dtype if name in target.weight_only)  # says the graph's type, no more
    quantized = quantize_student(student, precision, target, recipe)
    return {f"{role}.{name}": how for role, component in quantized.components.items() for name, how in component.layers.items()}


def make_units(student: Student, offered: Mapping[str, Layers], bound: int | None) -> tuple[list[LayerBits], tuple[str, ...]]:
    """Layers, or with more than `bound` layer x precision pairs kinds, with their bytes; and what to say about it.

    Args:
        student: has the weights.
        offered: by precision, how it rounds every layer.
        bound: on the number of measurements; None is none.

    Raises:
        InputError: kinds are still too many.
    """
    layers = tuple(next(iter(offered.values())))
    if bound is None or len(layers) * len(offered) <= bound:
        return [_make_unit(student, offered, layer, [layer]) for layer in layers], ()
    groups: dict[str, list[str]] = {}
    for layer in layers:
        groups.setdefault(kind_of(layer), []).append(layer)
    if len(groups) * len(offered) > bound:
        raise InputError(
            f"max_measurements={bound}: even with layers of a kind taken together, {len(groups)} kinds in {len(offered)} "
            f"precisions are {len(groups) * len(offered)} measurements; allow that many, or offer fewer precisions"
        )
    note = (
        f"{len(layers)} layers were measured as {len(groups)} kinds, and all layers of a kind get one precision: "
        f"{len(layers) * len(offered)} measurements are more than {bound}"
    )
    return [_make_unit(student, offered, *group) for group in groups.items()], (note,)


def _make_unit(student: Student, offered: Mapping[str, Layers], name: str, layers: Sequence[str]) -> LayerBits:
    """Nothing measured, nothing chosen. The order of precisions is the order in which equally good ones are taken."""

    def count(layer: str, how: QuantizedLayer | None) -> int:
        role, _, module = layer.partition(".")
        return layer_bytes(student.components[role].weights[f"{module}.weight"].shape, how)

    found = {choice: sum(count(layer, how[layer]) for layer in layers) for choice, how in offered.items()}
    found[FLOAT] = sum(count(layer, None) for layer in layers)
    return LayerBits(name, tuple(layers), FLOAT, found, {})


def write_rules(student: Student, units: Sequence[LayerBits], budget: int) -> tuple[Rule, ...]:
    """Rules that give every layer what its unit chose; reasons are the errors measured."""
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
    last = Rule("*", most, f"what most weights get within {budget:,} bytes")
    return (*rules.values(), last)


def _find_most(student: Student, chosen: Mapping[str, LayerBits]) -> str:
    """The catch-all's precision: that of the most values, but float where an embedding is: no rule can name one for float."""
    values: dict[str, int] = {}
    for layer, unit in chosen.items():
        role, _, module = layer.partition(".")
        is_embedding = isinstance(student.components[role].module.get_submodule(module), torch.nn.Embedding)
        if is_embedding and unit.precision == FLOAT:
            return FLOAT
    for unit in {unit.name: unit for unit in chosen.values()}.values():
        values[unit.precision] = values.get(unit.precision, 0) + unit.bytes[FLOAT]
    return max(values, key=lambda precision: values[precision])


def _explain(units: Sequence[LayerBits]) -> str:
    distinct = {unit.name: unit for unit in units}.values()
    sums = {p: sum(unit.errors[p] for unit in distinct) for p in units[0].errors if p != FLOAT}
    return "picture error alone: " + ", ".join(f"{precision} {error:.1e}" for precision, error in sums.items())
