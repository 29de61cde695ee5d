"""quantize_student: decide per layer, attach its measured range; smooth and correct biases where the recipe says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.recipe import Decision, QuantizedLayer, Recipe
from sprint_export.nouns.student import Component, Student
from sprint_export.nouns.target import LayerShape, Target
from sprint_export.progress import Progress, quiet
from sprint_export.quantize.left_float import correct_decisions, describe_left, find_reason
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.measure.observers import check_observer, choose_range
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.measure.streaming import OUTPUT
from sprint_export.quantize.mend.bias import correct_biases
from sprint_export.quantize.mend.edits import edit_component
from sprint_export.quantize.mend.fit import fit_component
from sprint_export.quantize.mend.smooth import check_smooth, smooth_component
from sprint_export.quantize.patterns import FLOAT, explain_recipe
from sprint_export.quantize.recipes import choose_prompts, default_recipe, fit_recipe
from sprint_export.registry import load_member
from sprint_export.students.family import load_family
from sprint_export.thread_count import fixed_threads
from sprint_export.weights import free_large_tensors_at_once

Value = TypeVar("Value")
ENOUGH_PROMPTS = 4  # from one, smoothed ranges cut others' values: 26.6 dB where four give 34.6 (benchmarks/results/README.md)


@fixed_threads()
def quantize_student(
    student: Student, precision: str, target: Target, recipe: Recipe | None = None, progress: Progress = quiet
) -> Student:
    """Attach to every layer how it is quantized.

    Args:
        student: specialized.
        precision: e.g. "int8" or "fp8"; a float precision returns the student as it is.
        target: its graph type rounds the scales, and its kernels decide whose outputs are rounded too.
        recipe: which layers; default: the preset `balanced`, all but the entry and exit layers.
        progress: is told (step, done, total).

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
    free_large_tensors_at_once()
    if recipe is None:
        recipe = default_recipe(precision, student, target)
    recipe = dataclasses.replace(recipe, prompts=recipe.prompts or choose_prompts(student))
    recipe = fit_recipe(recipe, precision, student, target)
    _check_precisions(recipe, target)
    check_observer(recipe.observer)
    check_smooth(recipe.smooth)
    # What `int8` means for a whole bundle it means for a rule of its recipe.
    weight_only = set(target.weight_only)
    explained = explain_recipe(recipe, student, weight_only)
    decisions = {d.layer: d.precision for d in explained if d.precision != FLOAT}
    is_measured = bool(decisions) and (recipe.correct_bias or bool(set(decisions.values()) - weight_only))
    records = calibrate(student, recipe.prompts, recipe.seed, progress) if is_measured else {}
    components = {}
    for role in student.components:
        mine = [decision for decision in explained if decision.layer.startswith(f"{role}.")]
        seen = _select(role, records)
        components[role] = _quantize_component(student, role, precision, target, recipe, mine, seen, progress)
    return dataclasses.replace(student, recipe=recipe, components=components)


def _select(role: str, by_layer: Mapping[str, Value]) -> dict[str, Value]:
    """The entries of one role, by the layer's name within it."""
    return {name.removeprefix(f"{role}."): value for name, value in by_layer.items() if name.startswith(f"{role}.")}


def _quantize_component(
    student: Student,
    role: str,
    precision: str,
    target: Target,
    recipe: Recipe,
    explained: Sequence[Decision],
    records: Mapping[str, Record],
    progress: Progress,
) -> Component:
    """Smooth, choose ranges of what is then seen, fit weights to it, and correct the biases for what is then rounded."""
    component = student.components[role]
    decisions = {d.layer.removeprefix(f"{role}."): d.precision for d in explained if d.precision != FLOAT}
    divisors: dict[str, torch.Tensor] = {}
    if recipe.smooth:
        rounded = {name for name, choice in decisions.items() if choice not in target.weight_only}
        migrations = load_family(student.family).list_migrations(student, role)
        component, divisors = smooth_component(component, migrations, records, recipe.smooth, rounded, progress)
    layers, left = {}, {}
    for name, choice in decisions.items():
        value = load_member("precision", choice).PRECISION
        shape = component.weights[f"{name}.weight"].shape
        group = target.groups.get(choice, 0)
        # a group that does not divide the weight would leave a shorter one, which no format can say
        divides = group and shape[0 if value.is_palette else 1] % group == 0
        is_weight_alone = choice in target.weight_only
        amax = None if is_weight_alone else choose_range(records[name], value, recipe.observer, divisors.get(name))
        where = LayerShape(shape, getattr(component.module.get_submodule(name), "groups", 1))
        is_rounded = target.rounds_output is not None and target.rounds_output(choice, where)
        given = choose_range(records[name + OUTPUT], value, recipe.observer) if is_rounded else None
        scale_dtype = target.scale_dtype or target.graph_dtype[precision]
        layer = QuantizedLayer(value, amax, 0, scale_dtype, group if divides else 0, given)
        reason = find_reason(component, name, layer)
        if reason is None:
            layers[name] = layer
        else:
            left[name] = reason
    notes = (*component.notes, *_doubt(recipe, divisors), *describe_left(left))
    corrected = correct_decisions(explained, role, left)
    component = dataclasses.replace(component, layers=layers, notes=notes, decisions=corrected)
    if recipe.gptq:
        so_far = dataclasses.replace(student, components={**student.components, role: component})
        component = edit_component(component, fit_component(so_far, role, recipe.prompts, recipe.seed, progress))
    if recipe.correct_bias:
        means = {name: record.mean / divisors.get(name, torch.ones(1)) for name, record in records.items()}
        component = edit_component(component, correct_biases(component, means, progress))
    return component


def _doubt(recipe: Recipe, divisors: Mapping[str, torch.Tensor]) -> list[str]:
    """What a reader of the bundle should know of its ranges."""
    count = len(recipe.prompts)
    if not divisors or count >= ENOUGH_PROMPTS:
        return []
    return [f"calibration: smoothed by {count} prompts; fewer than {ENOUGH_PROMPTS} may leave ranges too narrow for others"]


def _check_precisions(recipe: Recipe, target: Target) -> None:
    """Refuse a rule whose precision the target's format or kernels do not have."""
    for rule in recipe.rules:
        if rule.precision not in (FLOAT, *target.layer_precisions):
            what = f"precision in rule {rule.pattern!r} of recipe {recipe.name!r} for a {target.name} target:"
            raise unknown_choice(what, rule.precision, (FLOAT, *target.layer_precisions))
