"""quantize_student: decide per layer, attach its measured range."""

from __future__ import annotations

import dataclasses

from sprint_export.errors import InputError
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.calibrate import calibrate
from sprint_export.quantize.patterns import FLOAT, explain_recipe
from sprint_export.quantize.recipes import default_recipe
from sprint_export.registry import load_member
from sprint_export.schema import Component, QuantizedLayer, Recipe, Student, Target


def quantize_student(
    student: Student, precision: str, target: Target, recipe: Recipe | None = None, progress: Progress = quiet
) -> Student:
    """Attach to every layer how it is quantized.

    Args:
        student: specialized.
        precision: "int8" or "fp8"; a float precision returns the student as it is.
        target: its graph type rounds the scales, and its kernels decide whether a convolution may have a scale a channel.
        recipe: which layers; default: all but the entry and exit layers.
        progress: is told (stage, done, total).

    Raises:
        InputError: the student is not specialized, or the recipe does not fit it.
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
    decisions = {d.layer: d.precision for d in explain_recipe(recipe, student) if d.precision != FLOAT}
    amax = calibrate(student, recipe.prompts, recipe.seed, progress)
    precisions = {name: load_member("precision", name).PRECISION for name in set(decisions.values())}
    scale_dtype = target.graph_dtype[precision]

    def quantize(component: Component) -> Component:
        layers = {}
        for layer, name in decisions.items():
            role, _, module = layer.partition(".")
            if role == component.role:
                is_conv = component.module.get_submodule(module).weight.ndim == 4
                axis = 0 if target.conv_per_channel or not is_conv else None
                layers[module] = QuantizedLayer(precisions[name], amax[layer], axis, scale_dtype)
        return dataclasses.replace(component, layers=layers)

    return dataclasses.replace(student, recipe=recipe, components={r: quantize(c) for r, c in student.components.items()})
