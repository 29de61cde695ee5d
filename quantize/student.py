"""quantize_student: decide per layer, attach its measured range."""

from __future__ import annotations

import dataclasses

import torch

from sprint_export.errors import InputError, unknown_choice
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.calibrate import calibrate
from sprint_export.quantize.patterns import FLOAT, explain_recipe
from sprint_export.quantize.recipes import default_recipe
from sprint_export.quantize.torch_session import OUTPUT
from sprint_export.registry import load_member
from sprint_export.schema import Component, LayerShape, QuantizedLayer, Recipe, Student, Target


def quantize_student(
    student: Student, precision: str, target: Target, recipe: Recipe | None = None, progress: Progress = quiet
) -> Student:
    """Attach to every layer how it is quantized.

    Args:
        student: specialized.
        precision: e.g. "int8" or "fp8"; a float precision returns the student as it is.
        target: its graph type rounds the scales, and its kernels decide whether a convolution may have a scale a channel.
        recipe: which layers; default: all but the entry and exit layers.
        progress: is told (stage, done, total).

    Raises:
        InputError: the student is not specialized, or the recipe does not fit it or the target.
    """
    if student.plan is None:
        raise InputError(
            f"student {student.source!r} is not specialized; call specialize_student(student) first: "
            "ranges are measured at the times it will run at"
        )
    if not load_member("precision", precision).PRECISION.is_quantized:
        return student
    default = default_recipe(precision, student)
    recipe = default if recipe is None else dataclasses.replace(recipe, prompts=recipe.prompts or default.prompts)
    _check_precisions(recipe, target)
    # What `int8` means for a whole bundle it means for a rule of its recipe.
    weight_only = set(target.weight_only)
    decisions = {d.layer: d.precision for d in explain_recipe(recipe, student, weight_only) if d.precision != FLOAT}
    measured = set(decisions.values()) - weight_only
    amax = calibrate(student, recipe.prompts, recipe.seed, progress) if measured else {}
    precisions = {name: load_member("precision", name).PRECISION for name in set(decisions.values())}

    def quantize(component: Component) -> Component:
        layers = {}
        for layer, name in decisions.items():
            role, _, module = layer.partition(".")
            if role == component.role:
                torch_layer = component.module.get_submodule(module)
                weight: torch.Tensor = torch_layer.weight  # type: ignore[assignment]  # a Layer's
                axis = 0 if target.conv_per_channel or weight.ndim != 4 else None
                group = target.groups.get(name, 0)
                # a group that does not divide the weight would leave a shorter one, which no format can say
                divides = group and weight.shape[0 if precisions[name].is_palette else 1] % group == 0
                seen = None if name in weight_only else amax[layer]
                shape = LayerShape(tuple(weight.shape), getattr(torch_layer, "groups", 1))
                given = amax[layer + OUTPUT] if target.rounds_output and target.rounds_output(name, shape) else None
                layers[module] = QuantizedLayer(
                    precisions[name], seen, axis, target.graph_dtype[precision], group if divides else 0, given
                )
        return dataclasses.replace(component, layers=layers)

    return dataclasses.replace(student, recipe=recipe, components={r: quantize(c) for r, c in student.components.items()})


def _check_precisions(recipe: Recipe, target: Target) -> None:
    """Refuse a rule whose precision the target's format or kernels do not have."""
    for rule in recipe.rules:
        if rule.precision not in (FLOAT, *target.layer_precisions):
            what = f"precision in rule {rule.pattern!r} of recipe {recipe.name!r} for a {target.name} target:"
            raise unknown_choice(what, rule.precision, (FLOAT, *target.layer_precisions))
