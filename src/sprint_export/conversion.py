"""convert: from a student's name to a validated bundle.

Nothing appears at `out` until the bundle is whole: stages gather their files in `.<out>.partial` beside it, one run at a time,
and a killed run is taken up again there. A bundle that is there already, whole, and was made from the same inputs is not made
again.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sprint_export.clear_errors import explain_error
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, SprintExportError, unknown_choice
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import CheckedOrder, Order
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import DYNAMIC
from sprint_export.options import keep_asked, list_options
from sprint_export.out_folder import check_out, holds_anything, read_present
from sprint_export.progress import Progress, quiet
from sprint_export.recipe_choice import add_frontier, choose_recipe
from sprint_export.run_checks import check_order, check_orders, load_libraries
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
    return convert_order(_write_order(student, target, out, asked), progress, say)


def convert_targets(
    student: str | Path | Student,
    targets: str | Sequence[str],
    out: str | Path | None = None,
    *,
    progress: Progress = quiet,
    say: Say = lambda text: None,
    **asked: Any,
) -> list[Bundle]:
    """As `convert`, for several targets: what they share is done once, and each bundle is what `convert` makes.

    Args:
        student: as in `convert`.
        targets: e.g. "trt-fp8,onnx-int8", or a list; all are checked before anything is loaded.
        out: each bundle is `<out>/<target>`; default `<student>-<target>` in the working directory.
        progress: as in `convert`; its steps name the target.
        say: as in `convert`.
        asked: the other fields of `Order`. An option of some targets is given to those that have it, of none is refused.

    Returns:
        The finished bundles, in this order.

    Raises:
        InputError, RefusedError, MachineError: the worst that befell a target; the others were gone on with, and are kept.
    """
    joined = targets if isinstance(targets, str) else ",".join(targets)
    return list(convert_each(_write_order(student, joined, out, asked), progress, say))


def _write_order(student: str | Path | Student, target: str, out: str | Path | None, asked: dict[str, Any]) -> Order:
    names, of_targets = [field.name for field in dataclasses.fields(Order)], list_options()
    for name in asked:
        if name not in names and name not in of_targets:
            raise unknown_choice("option of convert", name, [*names, *of_targets, "progress", "say"])
    options = {name: asked.pop(name) for name in of_targets if name in asked} | (asked.pop("options", None) or {})
    return Order(student, target, out, options=options, **asked)


def convert_order(order: Order, progress: Progress = quiet, say: Say = lambda text: None) -> Bundle:
    """As `convert`, for an order that is written already."""
    if len(order.targets) > 1:
        raise InputError(f"target={order.target!r}: expected one target; convert_targets makes a bundle of each")
    checked = check_order(order)
    load_libraries(progress)
    with claim_bundle(_find_out(checked)):  # another run that works there is met before the student is loaded
        return _convert_loaded(_load([checked], say), checked, progress, say)


def convert_each(order: Order, progress: Progress = quiet, say: Say = lambda text: None) -> Iterator[Bundle]:
    """The bundles of an order for one target or several, each when it is finished.

    Raises:
        InputError, RefusedError, MachineError: of several targets the worst, once all were tried; the message names all.
    """
    if len(order.targets) == 1:
        yield convert_order(order, progress, say)
        return
    orders = check_orders(order)
    load_libraries(progress)
    from sprint_export.export.captures import Captures, keep_captures

    loaded, captures, finished = _load(orders, say), Captures(), []
    failures: dict[str, SprintExportError] = {}
    for checked in orders:
        loaded.specialize(checked)  # what is wrong with the student is wrong for every target
    for checked in orders:
        name = checked.deployment.name
        for option in sorted(set(keep_asked(order.options or {})) - set(checked.order.options or {})):
            say(f"{name}: has no option {option} and is made without")
        try:
            with keep_captures(captures):
                bundle = _convert_loaded(loaded, checked, *_name_target(name, progress, say))
        except Exception as error:  # of libraries too, where it is the disk's, the memory's or the input's; else raised again
            known = explain_error(error)
            if known is None:
                raise
            traceback.clear_frames(error.__traceback__)  # what it held goes before the next begins
            failures[name] = known
            say(f"{name}: {known}")
        else:
            finished.append(name)
            yield bundle
    if failures:
        said = "; ".join(f"{name}: {error}" for name, error in failures.items())
        worst = max(failures.values(), key=lambda error: error.exit_status)
        raise type(worst)(f"{said}. Finished and kept: {', '.join(finished) or 'none'}; the same command goes on") from worst


def _name_target(name: str, progress: Progress, say: Say) -> tuple[Progress, Say]:
    """Both, with the target's name before what they say."""
    return (
        lambda step, done, total: progress(dataclasses.replace(step, target=name), done, total),
        lambda text: say(f"{name}: {text}"),
    )


def _find_out(checked: CheckedOrder) -> Path:
    with clear_disk_errors(checked.out):
        return check_out(checked.out, checked.order.overwrite)


class _Loaded:
    """What the targets of a run share: the student, and by layout as it is specialized. Weights are read when used."""

    def __init__(self, student: Student, say: Say) -> None:
        self.student, self._say = student, say
        self._specialized: dict[str, Student] = {}

    def specialize(self, checked: CheckedOrder) -> Student:
        """The student at the order's steps and guidance, with the networks it asks for; notes are said once."""
        from sprint_export.specialize import specialize_student

        order, deployment = checked.order, checked.deployment
        layout = deployment.target.choose_layout(deployment.options)
        if layout not in self._specialized:
            student = specialize_student(
                self.student, order.steps, order.guidance, layout, order.prefix_cache, order.prompt_tokens
            )
            student = keep_components(student, checked.components or tuple(student.components))
            self._specialized[layout] = student
            for role, network in student.components.items():
                for note in network.notes:
                    self._say(f"{role}: {note}")
        return self._specialized[layout]


def _load(orders: Sequence[CheckedOrder], say: Say) -> _Loaded:
    from sprint_export.students import load_student
    from sprint_export.students.family import load_family

    order = orders[0].order  # all but target, out and options are the same in all
    student = order.student if isinstance(order.student, Student) else load_student(order.student, order.variant)
    if any(checked.deployment.options.get(DYNAMIC) for checked in orders):
        load_family(student.family).check_free_sizes(student)
    if order.prompts is not None:
        prompts = tuple(order.prompts)
        student = dataclasses.replace(student, calibration_prompts=prompts, validation_prompts=prompts)
    if any(checked.is_validated for checked in orders):
        from sprint_export.validate.bundle import check_gates

        check_gates(student, orders[0].gates, order.count)
    return _Loaded(student, say)


def _convert_loaded(loaded: _Loaded, checked: CheckedOrder, progress: Progress, say: Say) -> Bundle:
    order, student = checked.order, loaded.student
    out = _find_out(checked)
    with claim_bundle(out):
        bundle = _make_bundle(loaded, checked, out, progress, say)
        if checked.is_validated:
            from sprint_export.validate import validate_bundle

            validate_bundle(bundle, student, count=order.count, gates=checked.gates, progress=progress)
        elif order.validate:
            say("not validated: without all networks there is no picture to compare")
    return bundle


def _make_bundle(loaded: _Loaded, checked: CheckedOrder, out: Path, progress: Progress, say: Say) -> Bundle:
    """The bundle of a loaded student, published at `out`; a damaged one there is said before any work."""
    from sprint_export.export import export_student
    from sprint_export.export.publishing import discard_work, publish_bundle
    from sprint_export.export.student import bundle_key
    from sprint_export.quantize import quantize_student
    from sprint_export.runtimes import build_bundle

    order, deployment = checked.order, checked.deployment
    present = read_present(out, order.overwrite)
    student = loaded.specialize(checked)
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
