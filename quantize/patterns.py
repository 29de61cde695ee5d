"""Which layers can be quantized at all, and which rule of a recipe each one falls under."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from sprint_export.errors import InputError
from sprint_export.schema import Recipe, Rule, Student

FLOAT = "float"
MIN_CHANNELS = 16  # an 8-bit kernel reads 16 values at a time, as modelopt assumes too; thinner layers stay float


@dataclass(frozen=True)
class Decision:
    """One layer's fate: `precision` is a precision's name or "float"; `reason` says which rule or fact decided."""

    layer: str
    precision: str
    reason: str
    values: int
    is_pointwise: bool


def refuse_layer(module: torch.nn.Linear | torch.nn.Conv2d) -> str | None:
    """Why no kernel wants this layer in 8 bits, or None."""
    if isinstance(module, torch.nn.Conv2d) and module.groups > 1:
        return "grouped or depthwise convolution: 8-bit kernels pad the groups and lose"
    out_channels, in_channels = module.weight.shape[:2]
    if min(out_channels, in_channels) < MIN_CHANNELS:
        return f"{in_channels} -> {out_channels} channels: fewer than {MIN_CHANNELS}"
    return None


def is_pointwise(module: torch.nn.Linear | torch.nn.Conv2d) -> bool:
    """A matmul: a Linear, or a dense 1x1 convolution."""
    return isinstance(module, torch.nn.Linear) or (module.kernel_size == (1, 1) and module.groups == 1)


def explain_recipe(recipe: Recipe, student: Student) -> list[Decision]:
    """Every Linear and Conv2d with the rule that decides it, in module order.

    Raises:
        InputError: the recipe has no catch-all at its end, or one of its patterns matches no layer.
    """
    if not recipe.rules or recipe.rules[-1].pattern != "*":
        raise InputError(f"recipe {recipe.name!r} needs a last rule with pattern '*' that says what all other layers get")
    decisions, used = [], set()
    for role, component in student.components.items():
        for name, module in component.module.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                layer = f"{role}.{name}"
                rule = next(rule for rule in recipe.rules if fnmatchcase(layer, rule.pattern))
                used.add(rule.pattern)
                decisions.append(_decide(layer, module, rule))
    unused = [rule.pattern for rule in recipe.rules[:-1] if rule.pattern not in used]
    if unused and decisions:
        raise InputError(
            f"recipe {recipe.name!r}: pattern {unused[0]!r} matches no layer of {student.source!r}; "
            f"layer names look like {decisions[0].layer!r} and {decisions[-1].layer!r} (see: sprint-export inspect)"
        )
    return decisions


def _decide(layer: str, module: torch.nn.Linear | torch.nn.Conv2d, rule: Rule) -> Decision:
    refused = None if rule.precision == FLOAT else refuse_layer(module)
    precision, reason = (FLOAT, refused) if refused else (rule.precision, f"rule {rule.pattern!r}: {rule.reason}")
    return Decision(layer, precision, reason, module.weight.numel(), is_pointwise(module))
