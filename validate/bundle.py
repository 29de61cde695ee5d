"""validate_bundle: run a bundle beside PyTorch on the same prompts and noise, and write down what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import REPORT, SHEET
from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.export.bundle import find_file, read_bundle
from sprint_export.files import write_text, write_whole
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Gate, Report
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.search.frontier import JSON
from sprint_export.registry import load_target
from sprint_export.runtimes.hub import find_bundle
from sprint_export.runtimes.open import choose_runtime
from sprint_export.runtimes.runtime import Runtime
from sprint_export.specialize import specialize_like
from sprint_export.validate.blocks.gates import GATES, make_rows
from sprint_export.validate.blocks.prompt_ids import compare_ids
from sprint_export.validate.cluster.planning import plan_cluster
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.drawing import Drawing, Sides, picture_side
from sprint_export.validate.findings import find_all
from sprint_export.validate.gates import add_defaults, apply_gates, drop_unreachable, read_gates
from sprint_export.validate.image_metrics.measuring import (
    check_gated,
    choose_metrics,
    declare_rows,
    measure_pictures,
    pair_pictures,
)
from sprint_export.validate.image_metrics.metric import ImageMetric
from sprint_export.validate.images import draw_contact_sheet
from sprint_export.validate.inquiry import Inquiry, choose_prompts
from sprint_export.validate.kept import Holder, hold_kept
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.metrics import check_judged, check_metrics
from sprint_export.validate.model_card import write_card
from sprint_export.validate.own_source import load_own_source
from sprint_export.validate.pace import read_budget
from sprint_export.validate.page.report_page import write_page
from sprint_export.validate.report_file import format_report
from sprint_export.validate.side_by_side import keep_unfinished
from sprint_export.validate.stopping import LATER, Stopping
from sprint_export.validate.unchecked import list_unrun
from sprint_export.validate.weights.compare import compare_weights
from sprint_export.validate.weights.gates import GATES as WEIGHT_GATES
from sprint_export.validate.weights.gates import make_rows as make_weight_rows
from sprint_export.validate.weights.gates import mark_blocks
from sprint_export.work_folder import claim_bundle

TIMED = "pytorch_latency"  # gates on these rows want every picture drawn in this run
CHECKING = Step("checking files")
WRITE_ADVICE = "a validation writes its report into the bundle; copy it to where you can write"


def validate_bundle(
    bundle: Bundle | str | Path,
    student: Student | None = None,
    prompts: Sequence[str] | None = None,
    progress: Progress = quiet,
    **asked: Any,
) -> Report:
    """Measure a bundle against its student; write `report.json`, `report.html` and `contact_sheet.png` into it.

    A killed validation goes on where it was; pictures of PyTorch's are kept for the next one.

    Args:
        bundle: a bundle, its folder, or its hub id.
        student: the unspecialized student; default: the bundle's source, where that is an embedded student or `random:...`.
        prompts: default: the validation prompts that came with the student.
        progress: is told (step, done, total).
        asked: the other fields of `Inquiry`, by name: count, budget, gates, runtime, compute, provider, metrics, scorers, ...

    Returns:
        The report; `report.verdict` says whether all gates are met, one is not, or one is not decided.

    Raises:
        InputError: a gate is malformed, there are no prompts, or the student is not the one the bundle was made from.
        BundleError: the bundle lacks a component, so no picture can be drawn, or its files are damaged.
        MachineError: another run works on the bundle, or the disk is full.
    """
    inquiry = Inquiry(prompts, **asked)
    read_gates(inquiry.gates)  # a mistake in them is said before the bundle is claimed
    read_budget(inquiry.budget)
    _ = inquiry.choice
    folder = bundle.folder if isinstance(bundle, Bundle) else find_bundle(bundle, progress)
    with claim_bundle(folder, WRITE_ADVICE), hold_kept() as holder:
        return _validate_claimed(folder, student, inquiry, progress, holder)


@dataclass(frozen=True)
class _Task:
    """A validation whose demands are checked: what draws, and what is measured of it.

    Args:
        bundle: its files checked.
        student: the one it was made from, unspecialized.
        inquiry: what is asked for.
        runtime: of the exported side.
        metrics: beside those of every report.
        asked: the user's gates.
        gates: those and the defaults.
        progress: is told (step, done, total).
    """

    bundle: Bundle
    student: Student
    inquiry: Inquiry
    runtime: Runtime
    metrics: Sequence[ImageMetric]
    asked: tuple[Gate, ...]
    gates: tuple[Gate, ...]
    progress: Progress

    @property
    def gated(self) -> list[str]:
        """Metrics of the user's gates."""
        return [gate.metric for gate in self.asked]


def _validate_claimed(folder: Path, student: Student | None, inquiry: Inquiry, progress: Progress, holder: Holder) -> Report:
    task = _check_asked(folder, student, inquiry, progress)
    prompts, pace = choose_prompts(task.student, inquiry, picture_side(task.bundle))
    check_judged(task.gated, prompts, picture_side(task.bundle))
    kept, is_timed = keep_unfinished(task.bundle), any(name.startswith(TIMED) for name in task.gated)
    cluster = None if inquiry.ray is None else plan_cluster(task.bundle, task.student, inquiry, is_timed)
    drawing = Drawing(task.bundle, task.student, task.runtime, is_timed, kept, progress, inquiry.compute, cluster, holder)
    later = [row for row in task.gated if any(each.fits(row) for metric in task.metrics for each in declare_rows(metric))]
    stopping = Stopping(task.gates, task.asked, prompts, (*LATER, *later))
    sides = drawing.draw_sides(prompts, pace, stopping.is_decided if inquiry.is_open else None)
    report = _make_report(task, prompts[: len(sides.exported.pictures)], sides, round(pace.spent_s, 1))
    _write_down(folder, report, sides)
    for each in (kept, *([cluster.kept] if cluster else [])):
        each.discard()
    return report


def _check_asked(folder: Path, student: Student | None, inquiry: Inquiry, progress: Progress) -> _Task:
    """All that can be refused before anything is drawn: a mistake in gates or metrics, a library or a student that is missing."""
    bundle, gates, choice = _read_whole(folder, progress), read_gates(inquiry.gates), inquiry.choice
    gated = [gate.metric for gate in gates]
    check_metrics(gated, load_target(bundle.target), find_file(bundle, JSON) is not None, choice)
    metrics = choose_metrics(choice, gated)
    runtime = choose_runtime(bundle, inquiry.runtime, inquiry.provider)
    student = _check_student(bundle, student or load_own_source(bundle.source))
    return _Task(bundle, student, inquiry, runtime, metrics, gates, _list_gates(bundle, gates), progress)


def _make_report(task: _Task, prompts: Sequence[str], sides: Sides, seconds: float) -> Report:
    """What was drawn, measured and judged."""
    bundle, compute = task.bundle, task.inquiry.compute
    specialized = specialize_like(task.student, bundle)
    weights = compare_weights(bundle, specialized, task.progress)
    blocks = mark_blocks((compare_ids(bundle, specialized, prompts), *sides.blocks.blocks), weights.differences)
    pictures = pair_pictures(prompts, sides.exported.pictures, sides.reference.pictures)
    measured = measure_pictures(task.metrics, pictures, mean_interval, task.inquiry.choice.weights, compute, task.progress)
    check_gated(measured, task.gated, task.metrics)
    found = find_all(bundle, task.student, prompts, sides, compute, measured)
    reached, unreached = drop_unreachable(task.gates, task.asked, found.samples, sides.confidence)
    return Report(
        str(bundle.folder),
        f"{bundle.target}-{bundle.precision}",
        sides.exported.description,
        describe_machine() + ("" if compute.is_cpu else f"; {compute.description}"),
        len(prompts),
        apply_gates((*found.rows, *make_rows(blocks), *make_weight_rows(weights)), reached, task.asked, found.samples),
        seconds,
        found.pictures,
        blocks,
        (*list_unrun(bundle, task.runtime), *unreached, *found.unchecked, *sides.blocks.unchecked, *weights.unchecked),
    )


def _read_whole(folder: Path, progress: Progress) -> Bundle:
    """The bundle, its files checked.

    Raises:
        RefusedError: it is packed.
    """
    progress(CHECKING, 0, 1)
    bundle = read_bundle(folder)
    progress(CHECKING, 1, 1)
    if bundle.is_packed:
        raise RefusedError(
            f"{folder} is packed: it holds what ships, not what a validation compares; validate the bundle it was packed from"
        )
    return bundle


def _check_student(bundle: Bundle, student: Student) -> Student:
    """The student, if the bundle was made from it.

    Raises:
        InputError: it was not.
        BundleError: the manifest names another vocabulary.
    """
    if student.fingerprint != bundle.fingerprint:
        raise InputError(
            f"{bundle.source!r} is not the student this bundle was made from (its weights have another sha256); "
            "give the right one with --student, and the --lora or --decoder it was made with, or export again"
        )
    found, wanted = bundle.prompt.vocabulary, student.prompt.vocabulary
    if found != wanted:
        raise BundleError(f"the manifest says prompt.vocabulary={found}, the student has {wanted}; export the student again")
    return student


def _list_gates(bundle: Bundle, asked: Sequence[Gate]) -> tuple[Gate, ...]:
    """The user's, and the defaults of the bundle's scheme and target and of its blocks."""
    target, is_whole = load_target(bundle.target), bundle.recipe is None or bundle.recipe.is_whole
    return add_defaults(asked, target.offers[bundle.precision].scheme, is_whole, (*target.gates, *GATES, *WEIGHT_GATES))


def _write_down(folder: Path, report: Report, sides: Sides) -> None:
    """The report as JSON, as a page, as pictures, and on the model card."""
    rows = [("PyTorch float32", sides.reference.pictures), (report.target, sides.exported.pictures)]
    write_whole(folder / SHEET, lambda part: draw_contact_sheet(rows, part))
    write_text(folder / REPORT, format_report(report))
    write_page(folder, report, sides.reference.pictures, sides.exported.pictures)
    write_card(folder)
