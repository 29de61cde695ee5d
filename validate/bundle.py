"""validate_bundle: run a bundle beside PyTorch on the same prompts and noise, and write down what is found."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sprint_export.bundle_files import REPORT, SHEET
from sprint_export.compute import CPU, Compute
from sprint_export.errors import BundleError, InputError, RefusedError
from sprint_export.export.bundle import find_file, read_bundle
from sprint_export.files import write_text, write_whole
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Gate, Measurement, Report
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.patterns import is_pointwise
from sprint_export.quantize.search.frontier import JSON
from sprint_export.registry import load_target
from sprint_export.runtimes.open import choose_runtime
from sprint_export.specialize import specialize_like
from sprint_export.students import load_student
from sprint_export.students.family import load_family
from sprint_export.students.judge import list_judges
from sprint_export.students.source import RANDOM, is_embedded
from sprint_export.validate.blocks.compare import compare_blocks
from sprint_export.validate.blocks.gates import GATES, make_rows
from sprint_export.validate.drawing import Drawing, Sides, picture_side
from sprint_export.validate.gates import add_defaults, apply_gates, read_gates
from sprint_export.validate.images import draw_contact_sheet, relative_error
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.measure import (
    compare_decoders,
    compare_pictures,
    count_silent_rules,
    recall_search,
    time_components,
    weigh_files,
)
from sprint_export.validate.metrics import check_judged, check_metrics
from sprint_export.validate.model_card import write_card
from sprint_export.validate.pace import BUDGET_S, FEWEST, MOST_PICTURES, SMALL_PICTURE, Pace, read_budget
from sprint_export.validate.page.report_page import write_page
from sprint_export.validate.report_file import format_report
from sprint_export.validate.side_by_side import keep_unfinished
from sprint_export.work_folder import claim_bundle

if TYPE_CHECKING:
    from sprint_export.session import Array

TIMED = "pytorch_latency"  # gates on these rows want every picture drawn in this run
CHECKING = Step("checking files")
WRITE_ADVICE = "a validation writes its report into the bundle; copy it to where you can write"


@dataclass(frozen=True)
class Inquiry:
    """What a validation is asked for, beside the bundle and its student.

    Args:
        prompts: default: the validation prompts that came with the student.
        count: how many of them, or with a budget the most; default: 64. Given prompts are all taken.
        budget: seconds, or a text such as 90s, 10m or 1h: as many pictures as fit, at least 4; default: none for pictures up to
            128 px or where `count` or prompts are given, else 3m.
        gates: demands such as 'psnr_db>=30', in place of the precision's defaults on their metrics; all of them hold.
        runtime: as in `open_bundle`.
        provider: likewise.
        compute: where torch draws both of its sides: the reference, and what the bundle's graphs are compared with.
    """

    prompts: Sequence[str] | None = None
    count: int | None = None
    budget: float | str | None = None
    gates: Sequence[str | Gate] = ()
    runtime: str | None = None
    compute: Compute = CPU
    provider: str | None = None


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
        bundle: a bundle or its folder.
        student: the unspecialized student; default: the bundle's source, where that is an embedded student or `random:...`.
        prompts: default: the validation prompts that came with the student.
        progress: is told (step, done, total).
        asked: the other fields of `Inquiry`, by name: count, budget, gates, runtime, compute, provider.

    Returns:
        The report; `report.passed` says whether all gates were met.

    Raises:
        InputError: a gate is malformed, there are no prompts, or the student is not the one the bundle was made from.
        BundleError: the bundle lacks a component, so no picture can be drawn, or its files are damaged.
        MachineError: another run works on the bundle, or the disk is full.
    """
    inquiry = Inquiry(prompts, **asked)
    read_gates(inquiry.gates)  # a mistake in them is said before the bundle is claimed
    read_budget(inquiry.budget)
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    with claim_bundle(folder, WRITE_ADVICE):
        return _validate_claimed(folder, student, inquiry, progress)


def _validate_claimed(folder: Path, student: Student | None, inquiry: Inquiry, progress: Progress) -> Report:
    progress(CHECKING, 0, 1)
    bundle = read_bundle(folder)
    progress(CHECKING, 1, 1)
    if bundle.is_packed:
        raise RefusedError(
            f"{folder} is packed: it holds what ships, not what a validation compares; validate the bundle it was packed from"
        )
    target = load_target(bundle.target)
    gates = read_gates(inquiry.gates)
    check_metrics((gate.metric for gate in gates), target, find_file(bundle, JSON) is not None)
    # A mistake in it, or a library it lacks, is said before anything is drawn.
    runtime = choose_runtime(bundle, inquiry.runtime, inquiry.provider)
    student = student or load_source(bundle.source)
    if student.fingerprint != bundle.fingerprint:
        raise InputError(
            f"{bundle.source!r} is not the student this bundle was made from (its weights have another sha256); "
            "give the right one with --student, and the --lora or --decoder it was made with, or export again"
        )
    held, wanted = bundle.prompt.vocabulary, student.prompt.vocabulary
    if held != wanted:
        raise BundleError(f"the manifest says prompt.vocabulary={held}, the student has {wanted}; export the student again")
    prompts, budget = choose_prompts(student, inquiry, picture_side(bundle))
    check_judged([gate.metric for gate in gates], prompts, picture_side(bundle))
    is_timed = any(gate.metric.startswith(TIMED) for gate in gates)
    kept, pace = keep_unfinished(bundle), Pace(len(prompts), budget)
    drawing = Drawing(bundle, student, runtime, is_timed, kept, progress, inquiry.compute)
    sides = drawing.draw_sides(prompts, pace)
    prompts = prompts[: len(sides.exported.pictures)]
    rows = _compare(bundle, student, prompts, sides, inquiry.compute) + recall_search(bundle) + weigh_files(bundle)
    rows += count_silent_rules(bundle) + target.read_rows(bundle)
    found = compare_blocks(bundle, student, runtime, sides.feeds, prompts, inquiry.compute, progress)
    rows += make_rows(found.blocks)
    is_whole = bundle.recipe is None or bundle.recipe.is_whole
    all_gates = add_defaults(gates, target.offers[bundle.precision].scheme, is_whole, (*target.gates, *GATES))
    beside = "" if inquiry.compute.is_cpu else f"; {inquiry.compute.description}"
    report = Report(
        str(folder),
        f"{bundle.target}-{bundle.precision}",
        sides.exported.description,
        describe_machine() + beside,
        len(prompts),
        apply_gates(rows, all_gates, gates),
        round(pace.spent_s, 1),
        blocks=tuple(found.blocks),
        unchecked=tuple(found.unchecked),
    )
    write_text(folder / REPORT, format_report(report))
    write_page(folder, report, sides.reference.pictures, sides.exported.pictures)
    write_card(folder)
    kept.discard()
    return report


def load_source(source: str) -> Student:
    """The student a bundle names, where that is one of this package's own: a bundle may come from anywhere.

    Raises:
        InputError: it names a folder or a hub id, which is opened only where the user gives it.
    """
    if is_embedded(source) or source.startswith(RANDOM):
        return load_student(source)
    raise InputError(
        f"this bundle says it was made from {source!r}; a folder or download that a bundle names is not opened by itself. If you "
        f"trust it, give it: --student {shlex.quote(source)}"
    )


def check_gates(student: Student, gates: Sequence[Gate], count: int | None, budget: float | str | None = None) -> None:
    """Refuse, before a bundle is made, gates that its validation on the student's own prompts could not hold.

    Raises:
        InputError: adherence is asked for where prompts are no captions, or there are no prompts.
    """
    prompts, _ = choose_prompts(student, Inquiry(count=count, budget=budget), SMALL_PICTURE)
    check_judged([gate.metric for gate in gates], prompts)


def choose_prompts(student: Student, inquiry: Inquiry, side: int) -> tuple[list[str], float | None]:
    """The prompts, and the budget in seconds; both by the pictures' side in pixels where they are left open.

    Raises:
        InputError: there are no prompts, none is asked for, or the budget is no time.
    """
    chosen = list(student.validation_prompts if inquiry.prompts is None else inquiry.prompts)
    count, budget = inquiry.count, read_budget(inquiry.budget)
    if count is None and budget is None and inquiry.prompts is None:
        count, budget = MOST_PICTURES, None if side <= SMALL_PICTURE else BUDGET_S
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to validate with")
    if not chosen:
        raise InputError("no prompts to validate with; give --prompts FILE with one prompt a line")
    return chosen[:count], budget


def _compare(bundle: Bundle, student: Student, prompts: list[str], sides: Sides, compute: Compute) -> list[Measurement]:
    """All rows that need pictures."""
    exported, reference = sides.exported, sides.reference
    error = relative_error(exported.latents, reference.latents)
    note = "this network and those before it together vs PyTorch float32, the largest"
    role = bundle.chain.find_writer(bundle.chain.names.denoised, {record.role: record for record in bundle.components})
    rows = [*sides.rows, Measurement("denoised_relative_error", error, "", role or "", note=note)]
    rows += compare_pictures(exported.pictures, sides.rounded, reference.pictures, sides.is_fed)
    is_steered = bundle.chain.names.scale in bundle.chain.list_given({record.role: record for record in bundle.components})
    for judge in list_judges():
        if judge.knows(prompts, picture_side(bundle)):
            rows += judge.compare(prompts, exported.pictures, reference.pictures, is_steered)
    if student.parts.decoder is not None:
        few = len(prompts) if picture_side(bundle) <= SMALL_PICTURE else FEWEST
        own = load_family(student.family).decode_own(student, reference.latents[:few], compute)
        rows += compare_decoders(exported.pictures, reference.pictures, own)
    share = quantized_share(bundle, student)
    rows.append(Measurement("quantized_share", share, "", note="of matmul and 1x1-convolution weights"))
    rows += time_components(exported.seconds, reference.seconds)
    _write_sheet(bundle, [("PyTorch float32", reference.pictures), (f"{bundle.target}-{bundle.precision}", exported.pictures)])
    return rows


def _write_sheet(bundle: Bundle, rows: list[tuple[str, Array]]) -> None:
    write_whole(bundle.folder / SHEET, lambda part: draw_contact_sheet(rows, part))


def quantized_share(bundle: Bundle, student: Student) -> float:
    """Share of the values in Linear and dense 1x1 Conv2d weights that are stored quantized, over all components."""
    stored = total = 0
    specialized = specialize_like(student, bundle)
    for record in bundle.components:
        for name, module in specialized.components[record.role].module.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and is_pointwise(module):
                total += module.weight.numel()
                stored += module.weight.numel() * (name in record.layers)
    return stored / total
