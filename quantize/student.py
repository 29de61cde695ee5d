"""quantize_student: decide per layer, attach its measured range; smooth and correct biases where the recipe says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.recipe import Decision, QuantizedLayer, Recipe
from sprint_export.nouns.student import Component, Student
from sprint_export.nouns.target import LayerShape, Target
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.quantize.left_float import correct_decisions, describe_left, find_reason
from sprint_export.quantize.measure.calibrate import calibrate
from sprint_export.quantize.measure.observers import check_observer, choose_range
from sprint_export.quantize.measure.records import Record
from sprint_export.quantize.measure.settling import FEWEST
from sprint_export.quantize.measure.streaming import OUTPUT
from sprint_export.quantize.mend.bias import correct_biases
from sprint_export.quantize.mend.edits import edit_component
from sprint_export.quantize.mend.fit import fit_component
from sprint_export.quantize.mend.smooth import check_smooth, smooth_component
from sprint_export.quantize.patterns import FLOAT, explain_recipe
from sprint_export.quantize.recipes import choose_prompts, default_recipe, fit_recipe
from sprint_export.quantize.schemes.formats import Format
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.students.family import load_family
from sprint_export.thread_count import fixed_threads
from sprint_export.weights import free_large_tensors_at_once


@fixed_threads()
def quantize_student(
    student: Student,
    precision: str,
    target: Target,
    recipe: Recipe | None = None,
    progress: Progress = quiet,
    compute: Compute = CPU,
) -> Student:
    """Attach to every layer how it is quantized.

    Args:
        student: specialized.
        precision: the target's, e.g. "int8" or "fp8"; a float precision returns the student as it is.
        target: says what the precision means; its graph type rounds the scales, its kernels decide whose outputs are rounded too.
        recipe: which layers; default: the preset `balanced`, all but the entry and exit layers.
        progress: is told (step, done, total).
        compute: where networks run to be measured, and GPTQ fits weights; all else is computed on the CPU.

    Raises:
        InputError: the student is not specialized, or the recipe does not fit it or the target.
    """
    if student.plan is None:
        raise InputError(
            f"student {student.source!r} is not specialized; call specialize_student(student) first: "
            "ranges are measured at the times it will run at"
        )
    if precision not in target.precisions:
        raise unknown_choice(f"precision of {target.name}", precision, target.precisions)
    if not target.offers[precision].is_quantized:
        return student
    free_large_tensors_at_once()
    recipe, explained, is_measured = decide_layers(student, precision, target, recipe)
    check_observer(recipe.observer)
    check_smooth(recipe.smooth)
    records = calibrate(student, recipe.prompts, recipe.seed, progress, compute) if is_measured else {}
    components = {}
    for role in student.components:
        mine = [decision for decision in explained if decision.layer.startswith(f"{role}.")]
        seen = {name.removeprefix(f"{role}."): record for name, record in records.items() if name.startswith(f"{role}.")}
        component, divisors = _round_component(student, role, precision, target, recipe, mine, seen, progress)
        components[role] = _mend_component(student, component, recipe, seen, divisors, progress, compute)
    return dataclasses.replace(student, recipe=recipe, components=components)


def decide_layers(student: Student, precision: str, target: Target, recipe: Recipe | None) -> tuple[Recipe, list[Decision], bool]:
    """The recipe as it fits a specialized student, what it decides of every layer, and whether that takes measured ranges."""
    if recipe is None:
        recipe = default_recipe(precision, student, target)
    recipe = dataclasses.replace(recipe, prompts=recipe.prompts or choose_prompts(student))
    recipe = fit_recipe(recipe, precision, student, target)
    explained = explain_recipe(recipe, student)
    schemes = [load_scheme(name) for name in {d.precision for d in explained} - {FLOAT}]
    is_measured = bool(schemes) and (recipe.correct_bias or any(scheme.inputs is not None for scheme in schemes))
    return recipe, explained, is_measured


def _round_component(
    student: Student,
    role: str,
    precision: str,
    target: Target,
    recipe: Recipe,
    explained: Sequence[Decision],
    records: Mapping[str, Record],
    progress: Progress,
) -> tuple[Component, dict[str, torch.Tensor]]:
    """Smooth, and choose ranges of what is then seen; with what each layer's input channels are divided by then."""
    component = student.components[role]
    decisions = {d.layer.removeprefix(f"{role}."): d.precision for d in explained if d.precision != FLOAT}
    divisors: dict[str, torch.Tensor] = {}
    if recipe.smooth:
        rounded = {name for name, scheme in decisions.items() if load_scheme(scheme).inputs is not None}
        migrations = load_family(student.family).list_migrations(student, role)
        prompts = len(recipe.prompts)
        component, divisors = smooth_component(component, migrations, records, recipe.smooth, rounded, prompts, progress)
    find = _Ranges(records, divisors, recipe.observer)
    scale_dtype = target.scale_dtype or target.graph_dtype[precision]
    layers, left = {}, {}
    for name, scheme in track(decisions.items(), Step("choosing ranges", role), progress):
        layer = _round_layer(component, name, scheme, target, scale_dtype, find)
        reason = find_reason(component, name, layer)
        if reason is None:
            layers[name] = layer
        else:
            left[name] = reason
    notes = (*component.notes, *_doubt(recipe, divisors), *describe_left(left))
    corrected = correct_decisions(explained, role, left)
    return dataclasses.replace(component, layers=layers, notes=notes, decisions=corrected), divisors


def _mend_component(
    student: Student,
    component: Component,
    recipe: Recipe,
    records: Mapping[str, Record],
    divisors: Mapping[str, torch.Tensor],
    progress: Progress,
    compute: Compute,
) -> Component:
    """Fit weights to what layers read, and correct the biases for what is then rounded."""
    role = component.role
    if recipe.gptq:
        so_far = dataclasses.replace(student, components={**student.components, role: component})
        component = edit_component(component, fit_component(so_far, role, recipe.prompts, recipe.seed, progress, compute))
    if recipe.correct_bias:
        means = {name: record.mean / divisors.get(name, torch.ones(1)) for name, record in records.items()}
        component = edit_component(component, correct_biases(component, means, progress))
    return component


@dataclass(frozen=True)
class _Ranges:
    """Ranges of what layers read and give, by the recipe's observer; inputs are divided by the smoothing's divisors."""

    records: Mapping[str, Record]
    divisors: Mapping[str, torch.Tensor]
    observer: str

    def of_input(self, name: str, format: Format) -> float:
        return choose_range(self.records[name], format, self.observer, self.divisors.get(name))

    def of_output(self, name: str, format: Format) -> float:
        return choose_range(self.records[name + OUTPUT], format, self.observer)


def _round_layer(
    component: Component, name: str, scheme: str, target: Target, scale_dtype: str, ranges: _Ranges
) -> QuantizedLayer:
    """How a layer is rounded: by its scheme, in the target's groups, over the ranges that were seen."""
    value, inputs = load_scheme(scheme), load_scheme(scheme).inputs
    shape = component.weights[f"{name}.weight"].shape
    where = LayerShape(shape, getattr(component.module.get_submodule(name), "groups", 1))
    is_rounded = inputs is not None and target.rounds_output is not None and target.rounds_output(scheme, where)
    return QuantizedLayer(
        scheme,
        ranges.of_input(name, inputs.format) if inputs is not None and not inputs.is_dynamic else None,
        value.weight_axis,
        scale_dtype,
        value.fit_group(shape, target.find_offer(scheme).group),
        ranges.of_output(name, inputs.format) if inputs is not None and is_rounded else None,
    )


def _doubt(recipe: Recipe, divisors: Mapping[str, torch.Tensor]) -> list[str]:
    """What a reader of the bundle should know of its ranges."""
    count = len(recipe.prompts)
    if not divisors or count >= FEWEST:
        return []
    return [f"calibration: smoothed by {count} prompts; fewer than {FEWEST} may leave ranges too narrow for others"]
