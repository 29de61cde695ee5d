"""Which layers can be quantized at all, and which rule of a recipe each one falls under."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch

from sprint_export.errors import InputError
from sprint_export.schema import Recipe, Rule, Student

FLOAT = "float"
Layer = torch.nn.Linear | torch.nn.Conv2d | torch.nn.Embedding
MIN_CHANNELS = 16  # an 8-bit kernel reads 16 values at a time, as modelopt assumes too; thinner layers stay float


@dataclass(frozen=True)
class Decision:
    """One layer's fate: `precision` is a precision's name or "float"; `reason` says which rule or fact decided."""

    layer: str
    precision: str
    reason: str
    values: int
    is_pointwise: bool


def refuse_layer(module: Layer, weight_only: bool = False) -> str | None:
    """Why no kernel wants this layer in 8 bits, or None; a weight that is only stored in few bits suits any kernel."""
    if isinstance(module, torch.nn.Embedding):
        return None if weight_only else "an embedding is read, not multiplied: only its weight can be compressed"
    if isinstance(module, torch.nn.Conv2d) and module.groups > 1 and not weight_only:
        return "grouped or depthwise convolution: 8-bit kernels pad the groups and lose"
    out_channels, in_channels = module.weight.shape[0], module.weight[0].numel() if weight_only else module.weight.shape[1]
    if min(out_channels, in_channels) < MIN_CHANNELS:
        return f"{in_channels} -> {out_channels} channels: fewer than {MIN_CHANNELS}"
    return None


def is_pointwise(module: Layer) -> bool:
    """A matmul: a Linear, or a dense 1x1 convolution."""
    is_dense = isinstance(module, torch.nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, torch.nn.Linear) or is_dense


def explain_recipe(recipe: Recipe, student: Student, weight_only: Container[str] = ()) -> list[Decision]:
    """Every Linear, Conv2d and, where it can be compressed, Embedding with the rule that decides it, in module order.

    `weight_only` names the precisions that leave activations alone.

    Raises:
        InputError: the recipe has no catch-all at its end, or one of its patterns matches no layer.
    """
    if not recipe.rules or recipe.rules[-1].pattern != "*":
        raise InputError(f"recipe {recipe.name!r} needs a last rule with pattern '*' that says what all other layers get")
    decisions, used = [], set()
    for role, component in student.components.items():
        for name, module in component.module.named_modules():
            if isinstance(module, Layer):
                layer = f"{role}.{name}"
                rule = next(rule for rule in recipe.rules if fnmatchcase(layer, rule.pattern))
                used.add(rule.pattern)
                if isinstance(module, torch.nn.Embedding) and rule.precision not in weight_only:
                    continue
                decisions.append(_decide(layer, module, rule, rule.precision in weight_only))
    unused = [rule.pattern for rule in recipe.rules[:-1] if rule.pattern not in used]
    if unused and decisions:
        raise InputError(
            f"recipe {recipe.name!r}: pattern {unused[0]!r} matches no layer of {student.source!r}; "
            f"layer names look like {decisions[0].layer!r} and {decisions[-1].layer!r} (see: sprint-export inspect)"
        )
    return decisions


def _decide(layer: str, module: Layer, rule: Rule, weight_only: bool) -> Decision:
    refused = None if rule.precision == FLOAT else refuse_layer(module, weight_only)
    precision, reason = (FLOAT, refused) if refused else (rule.precision, f"rule {rule.pattern!r}: {rule.reason}")
    return Decision(layer, precision, reason, module.weight.numel(), is_pointwise(module))
