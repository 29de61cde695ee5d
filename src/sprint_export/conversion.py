"""convert: from a student's name to a validated bundle.

Nothing appears at `out` until the bundle is whole: stages gather their files in `.<out>.partial` beside it, one run at a time,
and a killed run is taken up again there. A bundle that is there already, whole, and was made from the same inputs is not made
again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import CheckedOrder, Order
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import DYNAMIC
from sprint_export.options import list_options
from sprint_export.out_folder import check_out, holds_anything, read_present
from sprint_export.progress import Progress, quiet
from sprint_export.recipe_choice import add_frontier, choose_recipe
from sprint_export.run_checks import check_order, load_libraries
from sprint_export.work_folder import claim_bundle, find_work_folder

Say = Callable[[str], None]


def convert(
    student: str | Path | Student = Order.student,
    target: str = Order.target,
    out: str | Path | None = None,
    *,
    progress: Progress = quiet,
    say: Say = lambda text: None,
    **asked: Any,
) -> Bundle:
    """Load, specialize, quantize, export, build, validate.

    Args:
        student: what `load_student` takes, or its result.
        target: `<target>-<precision>`, e.g. "trt-fp8"; see `list_targets`.
        out: the bundle's folder; default `<student>-<target>` in the working directory.
        progress: is told (step, done, total).
        say: is told what was decided, in one line each.
        asked: the other fields of `Order`, by name: steps, device, recipe, gates, ...; a target's options too, or in a mapping
            `options`.

    Returns:
        The finished bundle; its report lies beside `bundle.json`.

    Raises:
        InputError, RefusedError: the input is wrong or the pair cannot work; nothing was written.
        MachineError: a library, a GPU or disk space is missing; what was finished is kept for the next run.
    """
    names, of_targets = [field.name for field in dataclasses.fields(Order)], list_options()
    for name in asked:
        if name not in names and name not in of_targets:
            raise unknown_choice("option of convert", name, [*names, *of_targets, "progress", "say"])
    options = {name: asked.pop(name) for name in of_targets if name in asked} | (asked.pop("options", None) or {})
    return convert_order(Order(student, target, out, options=options, **asked), progress, say)


def convert_order(order: Order, progress: Progress = quiet, say: Say = lambda text: None) -> Bundle:
    """As `convert`, for an order that is written already."""
    checked = check_order(order)
    load_libraries(progress)
    from sprint_export.students import load_student
    from sprint_export.students.family import load_family

    with clear_disk_errors(checked.out):
        out = check_out(checked.out, order.overwrite)
    with claim_bundle(out):  # another run that works there is met before the student is loaded
        student = order.student if isinstance(order.student, Student) else load_student(order.student, order.variant)
        if checked.deployment.options.get(DYNAMIC):
            load_family(student.family).check_free_sizes(student)
        if order.prompts is not None:
            prompts = tuple(order.prompts)
            student = dataclasses.replace(student, calibration_prompts=prompts, validation_prompts=prompts)
        if checked.is_validated:
            from sprint_export.validate.bundle import check_gates

            check_gates(student, checked.gates, order.count)
        bundle = _make_bundle(student, checked, out, progress, say)
        if checked.is_validated:
            from sprint_export.validate import validate_bundle

            validate_bundle(bundle, student, count=order.count, gates=checked.gates, progress=progress)
        elif order.validate:
            say("not validated: without all networks there is no picture to compare")
    return bundle


def _make_bundle(student: Student, checked: CheckedOrder, out: Path, progress: Progress, say: Say) -> Bundle:
    from sprint_export.export import export_student
    from sprint_export.export.publishing import discard_work, publish_bundle
    from sprint_export.export.student import bundle_key
    from sprint_export.quantize import quantize_student
    from sprint_export.runtimes import build_bundle

    order, deployment = checked.order, checked.deployment
    present = read_present(out, order.overwrite)
    student = _specialize(student, checked)
    for role, component in student.components.items():
        for note in component.notes:
            say(f"{role}: {note}")
    recipe, frontier = choose_recipe(student, checked, progress, say)
    student = quantize_student(student, deployment.precision, deployment.target, recipe, progress)
    key = bundle_key(student, deployment)
    if present is not None and present.key == key:
        say(f"{out} was made from the same inputs; nothing to do but validate it")
        discard_work(find_work_folder(out), key)
        return build_bundle(present, deployment.device.name, deployment.options, progress)
    if holds_anything(out) and not order.overwrite:
        raise InputError(f"{out} holds a bundle made from other inputs; choose another --out, or --overwrite it")
    bundle = export_student(student, deployment, out, progress, say)
    bundle = add_frontier(bundle, frontier)
    bundle = build_bundle(bundle, deployment.device.name, progress=progress)
    return publish_bundle(bundle, out)


def _specialize(student: Student, checked: CheckedOrder) -> Student:
    """The student at the order's steps and guidance, with the networks it asks for."""
    from sprint_export.specialize import specialize_student

    order = checked.order
    layout = checked.deployment.target.choose_layout(checked.deployment.options)
    specialized = specialize_student(student, order.steps, order.guidance, layout, order.prefix_cache, order.prompt_tokens)
    return keep_components(specialized, checked.components or tuple(specialized.components))


def keep_components(student: Student, roles: Sequence[str]) -> Student:
    """Only these networks.

    Raises:
        InputError: an unknown role, or none.
    """
    for role in roles:
        if role not in student.components:
            raise unknown_choice("component", role, student.components)
    if not roles:
        raise InputError(f"no component chosen; choose from: {', '.join(student.components)}")
    return dataclasses.replace(student, components={r: c for r, c in student.components.items() if r in roles})
