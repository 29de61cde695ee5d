"""Which layers a student has, and which rule of a recipe each one falls under."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.recipe import FLOAT as FLOAT
from sprint_export.nouns.recipe import Decision, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.quantize.schemes.scheme import Scheme, load_scheme

Layer = torch.nn.Linear | torch.nn.Conv2d | torch.nn.Embedding
PLACES = {"{first}": min, "{last}": max}  # in a pattern


def is_pointwise(module: Layer) -> bool:
    """A matmul: a Linear, or a dense 1x1 convolution."""
    is_dense = isinstance(module, torch.nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, torch.nn.Linear) or is_dense


def list_layers(student: Student) -> Iterator[tuple[str, Layer]]:
    """Every Linear, Conv2d and Embedding by `role.module`, in module order."""
    for role, component in student.components.items():
        for name, module in component.module.named_modules():
            if isinstance(module, Layer):
                yield f"{role}.{name}", module


def place_pattern(pattern: str, layers: Sequence[str]) -> str:
    """`transformer_blocks.{last}.*` -> `transformer_blocks.27.*`; a pattern that fits no layer stays as it is."""
    for place, choose in PLACES.items():
        head, found, tail = pattern.partition(place)
        if found:
            numbers = {int(n) for layer in layers for n in re.findall(r"\d+", layer) if fnmatchcase(layer, f"{head}{n}{tail}")}
            return f"{head}{choose(numbers)}{tail}" if numbers else pattern
    return pattern


def explain_recipe(recipe: Recipe, student: Student) -> list[Decision]:
    """Every Linear, Conv2d and, where it can be compressed, Embedding with the rule that decides it, in module order.

    The recipe's rules name schemes, as `fit_recipe` leaves them.

    Raises:
        InputError: the recipe has no catch-all at its end, or one of its patterns matches no layer.
    """
    if not recipe.rules or recipe.rules[-1].pattern != "*":
        raise InputError(f"recipe {recipe.name!r} needs a last rule with pattern '*' that says what all other layers get")
    decisions, used = [], set()
    for layer, module in list_layers(student):
        rule = next(rule for rule in recipe.rules if fnmatchcase(layer, rule.pattern))
        used.add(rule.pattern)
        scheme = None if rule.precision == FLOAT else load_scheme(rule.precision)
        is_compressed = scheme is not None and scheme.inputs is None
        if is_compressed or not isinstance(module, torch.nn.Embedding):
            decisions.append(_decide(layer, module, rule, scheme))
    unused = [rule.pattern for rule in recipe.rules[:-1] if rule.pattern not in used]
    if unused and decisions:
        raise InputError(
            f"recipe {recipe.name!r}: pattern {unused[0]!r} matches no layer of {student.source!r}; "
            f"layer names look like {decisions[0].layer!r} and {decisions[-1].layer!r} (see: inspect BUNDLE --recipe)"
        )
    return decisions


def _decide(layer: str, module: Layer, rule: Rule, scheme: Scheme | None) -> Decision:
    refused = None if scheme is None else scheme.refuse(module)
    precision, reason = (FLOAT, refused) if refused else (rule.precision, rule.reason)
    return Decision(layer, precision, rule.pattern, reason, module.weight.numel(), is_pointwise(module), refused is not None)
