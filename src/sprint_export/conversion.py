"""convert: from a student's name to a validated bundle.

Nothing appears at `out` until the bundle is whole: stages gather their files in `.<out>.partial` beside it, one run at a time,
and a killed run is taken up again there. A bundle that is there already, whole, and was made from the same inputs is not made
again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.bundle_files import REPORT
from sprint_export.clear_errors import explain_error
from sprint_export.compute import Compute, choose_compute
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, SprintExportError, unknown_choice
from sprint_export.freed_memory import return_freed_memory
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import CheckedOrder, Order
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import DYNAMIC
from sprint_export.options import keep_asked, list_options
from sprint_export.out_folder import check_out, holds_anything, read_present
from sprint_export.paths import is_file
from sprint_export.progress import Progress, Say, Step, quiet, say_nothing
from sprint_export.recipe_choice import add_frontier, choose_recipe
from sprint_export.run_checks import check_order, check_orders, load_libraries
from sprint_export.work_folder import claim_bundle, find_work_folder

if TYPE_CHECKING:
    from sprint_export.estimates.stages import Estimate

READING, SPECIALIZING = Step("reading student"), Step("specializing")
Expect = Callable[[Sequence["Estimate"]], None]


def convert(
    student: str | Path | Student = Order.student,
    target: str = Order.target,
    out: str | Path | None = None,
    *,
    progress: Progress = quiet,
    say: Say = say_nothing,
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
    say: Say = say_nothing,
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


def convert_order(order: Order, progress: Progress = quiet, say: Say = say_nothing, expect: Expect | None = None) -> Bundle:
    """As `convert`, for an order that is written already; `expect` is told what its stages will take once that is counted."""
    if len(order.targets) > 1:
        raise InputError(f"target={order.target!r}: expected one target; convert_targets makes a bundle of each")
    checked = check_order(order)
    load_libraries(progress)
    with claim_bundle(_find_out(checked)):  # another run that works there is met before the student is loaded
        return _convert_loaded(load_orders([checked], progress, say, expect), checked, progress, say)


def convert_each(
    order: Order, progress: Progress = quiet, say: Say = say_nothing, expect: Expect | None = None
) -> Iterator[Bundle]:
    """The bundles of an order for one target or several, each when it is finished; arguments as in `convert_order`.

    Raises:
        InputError, RefusedError, MachineError: of several targets the worst, once all were tried; the message names all.
    """
    if len(order.targets) == 1:
        yield convert_order(order, progress, say, expect)
        return
    orders = check_orders(order)
    load_libraries(progress)
    from sprint_export.export.captures import Captures, keep_captures

    loaded, captures, finished = load_orders(orders, progress, say, expect), Captures(), []
    failures: dict[str, SprintExportError] = {}
    for checked in orders:
        loaded.specialize(checked)  # what is wrong with the student is wrong for every target
    loaded.announce()
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


class Loaded:
    """What the targets of a run share: where torch computes, the student, and by layout as it is specialized.

    Weights are read when used.
    """

    def __init__(
        self,
        student: Student,
        compute: Compute,
        orders: Sequence[CheckedOrder],
        progress: Progress = quiet,
        say: Say = say_nothing,
        expect: Expect | None = None,
    ) -> None:
        self.student, self.compute, self.orders = student, compute, orders
        self._progress, self._say, self._expect = progress, say, expect
        self._specialized: dict[str, Student] = {}

    def announce(self) -> None:
        """Tell once, where somebody listens, what the stages of all targets will take."""
        expect, self._expect = self._expect, None
        if expect is not None:
            from sprint_export.estimates.plan import expect_stages

            expect(expect_stages(self))

    def specialize(self, checked: CheckedOrder) -> Student:
        """The student at the order's steps and guidance, with the networks it asks for; notes are said once."""
        from sprint_export.specialize import specialize_student

        order, deployment = checked.order, checked.deployment
        layout = deployment.target.choose_layout(deployment.options)
        if layout not in self._specialized:
            self._progress(SPECIALIZING, 0, 1)
            student = specialize_student(
                self.student, order.steps, order.guidance, layout, order.prefix_cache, order.prompt_tokens, order.times
            )
            student = keep_components(student, checked.components or tuple(student.components))
            self._specialized[layout] = student
            for role, network in student.components.items():
                for note in network.notes:
                    self._say(f"{role}: {note}")
            self._progress(SPECIALIZING, 1, 1)
        return self._specialized[layout]


def load_orders(
    orders: Sequence[CheckedOrder], progress: Progress = quiet, say: Say = say_nothing, expect: Expect | None = None
) -> Loaded:
    """The student of a run's orders, which differ in target, folder and options alone.

    Raises:
        InputError: there is none, it is damaged, or its prompts are none to hold the gates on. RefusedError: --dynamic.
    """
    from sprint_export.students import load_student
    from sprint_export.students.family import load_family

    order = orders[0].order
    compute = choose_compute(order.compute, say)
    progress(READING, 0, 1)
    student = order.student if isinstance(order.student, Student) else load_student(order.student, order.variant, order.parts)
    if order.image_to_image and not student.chain.names.source:
        student = load_family(student.family).add_encoder(student)
    progress(READING, 1, 1)
    if any(checked.deployment.options.get(DYNAMIC) for checked in orders):
        load_family(student.family).check_free_sizes(student)
    if order.prompts is not None:
        student = dataclasses.replace(student, calibration_prompts=tuple(order.prompts), validation_prompts=order.prompts)
    if any(checked.is_validated for checked in orders):
        from sprint_export.validate.image_metrics.measuring import choose_metrics, list_faults, read_choice
        from sprint_export.validate.inquiry import check_gates

        check_gates(student, orders[0].gates, order.count, order.budget)
        choice = read_choice(order.metrics, order.metric_weights, order.scorers)
        for sentence in list_faults(choose_metrics(choice), choice.weights):
            say(f"will not be measured: {sentence}")
    return Loaded(student, compute, orders, progress, say, expect)


def _convert_loaded(loaded: Loaded, checked: CheckedOrder, progress: Progress, say: Say) -> Bundle:
    order, student = checked.order, loaded.student
    out = _find_out(checked)
    with claim_bundle(out):
        with _keep_captures(order):
            bundle = _make_bundle(loaded, checked, out, progress, say)
        if checked.is_validated:
            from sprint_export.validate import validate_bundle

            asked: dict[str, Any] = {"count": order.count, "budget": order.budget, "gates": checked.gates}
            asked |= {"provider": order.provider, "metrics": order.metrics, "scorers": order.scorers}
            asked["metric_weights"] = order.metric_weights
            validate_bundle(bundle, student, progress=progress, compute=loaded.compute, **asked)
        else:
            if order.validate:
                say("not validated: without all networks there is no picture to compare")
            if not is_file(out / REPORT):
                from sprint_export.validate.model_card import write_card

                write_card(out)
    return bundle


def _keep_captures(order: Order) -> AbstractContextManager[None]:
    """What is captured for a price is captured for the bundle; elsewhere a network is captured once."""
    from sprint_export.export.captures import Captures, keep_captures

    return keep_captures(Captures()) if order.drop_unpaid else contextlib.nullcontext()


def _make_bundle(loaded: Loaded, checked: CheckedOrder, out: Path, progress: Progress, say: Say) -> Bundle:
    """The bundle of a loaded student, published at `out`; a damaged one there is said before any work."""
    from sprint_export.export import export_student
    from sprint_export.export.publishing import discard_work, publish_bundle
    from sprint_export.export.student import bundle_key
    from sprint_export.quantize import quantize_student
    from sprint_export.runtimes import build_bundle
    from sprint_export.runtimes.reference import add_reference

    order, deployment = checked.order, checked.deployment
    present = read_present(out, order.overwrite)
    student = loaded.specialize(checked)
    loaded.announce()
    recipe, frontier = choose_recipe(student, checked, progress, say, loaded.compute)
    if order.drop_unpaid:
        from sprint_export.unpaid import drop_unpaid

        recipe = drop_unpaid(student, deployment, recipe, progress, say)
    student = quantize_student(student, deployment.precision, deployment.target, recipe, progress, loaded.compute)
    return_freed_memory()
    key = bundle_key(student, deployment)
    if present is not None and present.key == key:
        say(f"{out} was made from the same inputs; nothing to do but validate it")
        discard_work(find_work_folder(out), key)
        present = build_bundle(present, deployment.device.name, deployment.options, progress)
        return add_reference(present, _find_example(student), progress, say, order.provider, student.validation_prompts[1:])
    if holds_anything(out) and not order.overwrite:
        raise InputError(f"{out} holds a bundle made from other inputs; choose another --out, or --overwrite it")
    bundle = export_student(student, deployment, out, progress, say)
    bundle = add_frontier(bundle, frontier)
    return_freed_memory()
    bundle = build_bundle(bundle, deployment.device.name, progress=progress)
    bundle = add_reference(bundle, _find_example(student), progress, say, order.provider, student.validation_prompts[1:])
    return publish_bundle(bundle, out)


def _find_example(student: Student) -> str | None:
    """A prompt that the student draws well, where it came with any."""
    return next(iter(student.validation_prompts), None)


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
