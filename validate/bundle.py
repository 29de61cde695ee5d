"""validate_bundle: run a bundle beside PyTorch on the same prompts and noise, and write down what is found."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sprint_export.bundle_files import REPORT, SHEET
from sprint_export.compute import CPU, Compute
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import find_file, read_bundle
from sprint_export.files import write_text, write_whole
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.chain import Interface
from sprint_export.nouns.report import Gate, Measurement, Report
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.patterns import is_pointwise
from sprint_export.quantize.search.frontier import JSON
from sprint_export.registry import load_target
from sprint_export.runtimes.open import choose_runtime
from sprint_export.session import make_noise
from sprint_export.sizes import find_sizes
from sprint_export.specialize import specialize_like
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.students.judge import list_judges
from sprint_export.students.source import RANDOM, is_embedded
from sprint_export.validate.gates import add_defaults, apply_gates, read_gates
from sprint_export.validate.images import draw_contact_sheet, relative_error
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.measure import (
    compare_pictures,
    count_silent_rules,
    recall_search,
    time_components,
    weigh_files,
)
from sprint_export.validate.metrics import check_judged, check_metrics
from sprint_export.validate.reference_cache import recall_reference
from sprint_export.validate.report_file import format_report
from sprint_export.validate.side_by_side import compare_components, draw_exported, draw_rounded, pair_components
from sprint_export.work_folder import claim_bundle

if TYPE_CHECKING:
    from sprint_export.session import Array

SMALL_PICTURE = 128  # pixels; up to this size SMALL_COUNT prompts are drawn, above it LARGE_COUNT
SMALL_COUNT, LARGE_COUNT = 64, 4
TIMED = "pytorch_latency"  # gates on these rows want every picture drawn in this run
NOISE_SEED = 0
CHECKING = Step("checking files")
WRITE_ADVICE = "a validation writes its report into the bundle; copy it to where you can write"


def validate_bundle(
    bundle: Bundle | str | Path,
    student: Student | None = None,
    prompts: Sequence[str] | None = None,
    count: int | None = None,
    gates: Sequence[str | Gate] = (),
    runtime: str | None = None,
    progress: Progress = quiet,
    compute: Compute = CPU,
) -> Report:
    """Measure a bundle against the student it was made from and write `report.json` and `contact_sheet.png` into it.

    Args:
        bundle: a bundle or its folder.
        student: the unspecialized student; default: the bundle's source, where that is an embedded student or `random:...`.
        prompts: default: the validation prompts that came with the student.
        count: how many of them; default: 64 for pictures up to 128 px, else 4. Given prompts are all taken.
        gates: demands such as 'psnr_db>=30', in place of the precision's defaults on their metrics; all of them hold.
        runtime: as in `open_bundle`.
        progress: is told (step, done, total).
        compute: where torch draws both of its sides: the reference, and what the bundle's graphs are compared with.

    Returns:
        The report; `report.passed` says whether all gates were met.

    Raises:
        InputError: a gate is malformed, there are no prompts, or the student is not the one the bundle was made from.
        BundleError: the bundle lacks a component, so no picture can be drawn, or its files are damaged.
        MachineError: another run works on the bundle, or the disk is full.
    """
    folder = bundle.folder if isinstance(bundle, Bundle) else Path(bundle)
    with claim_bundle(folder, WRITE_ADVICE):
        return _validate_claimed(folder, student, prompts, count, read_gates(gates), runtime, progress, compute)


def _validate_claimed(
    folder: Path,
    student: Student | None,
    prompts: Sequence[str] | None,
    count: int | None,
    gates: Sequence[Gate],
    runtime: str | None,
    progress: Progress,
    compute: Compute,
) -> Report:
    progress(CHECKING, 0, 1)
    bundle = read_bundle(folder)
    progress(CHECKING, 1, 1)
    target = load_target(bundle.target)
    check_metrics((gate.metric for gate in gates), target, find_file(bundle, JSON) is not None)
    choose_runtime(bundle, runtime)  # a mistake in it, or a library it lacks, is said before anything is drawn
    student = student or _load_source(bundle.source)
    if student.fingerprint != bundle.fingerprint:
        raise InputError(
            f"{bundle.source!r} is not the student this bundle was made from (its weights have another sha256); "
            "give the right one with --student, or export again"
        )
    found, wanted = bundle.prompt.vocabulary, student.prompt.vocabulary
    if found != wanted:
        raise BundleError(f"the manifest says prompt.vocabulary={found}, the student has {wanted}; export the student again")
    prompts = choose_prompts(student, prompts, count, student_side(bundle))
    check_judged([gate.metric for gate in gates], prompts, student_side(bundle))
    is_timed = any(gate.metric.startswith(TIMED) for gate in gates)
    rows, description = _compare(bundle, student, prompts, runtime, progress, is_timed, compute)
    rows += recall_search(bundle) + weigh_files(bundle) + count_silent_rules(bundle) + target.read_rows(bundle)
    is_whole = bundle.recipe is None or bundle.recipe.is_whole
    all_gates = add_defaults(gates, target.offers[bundle.precision].scheme, is_whole, target.gates)
    report = Report(
        str(folder),
        f"{bundle.target}-{bundle.precision}",
        description,
        describe_machine(),
        len(prompts),
        apply_gates(rows, all_gates, gates),
    )
    write_text(folder / REPORT, format_report(report))
    return report


def _load_source(source: str) -> Student:
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


def check_gates(student: Student, gates: Sequence[Gate], count: int | None) -> None:
    """Refuse, before a bundle is made, gates that its validation on the student's own prompts could not hold.

    Raises:
        InputError: adherence is asked for where prompts are no captions, or there are no prompts.
    """
    prompts = choose_prompts(student, None, count, SMALL_PICTURE)
    check_judged([gate.metric for gate in gates], prompts)


def student_side(bundle: Bundle) -> int:
    """Width of the pictures in pixels."""
    if missing := bundle.chain.list_missing([record.role for record in bundle.components]):
        raise BundleError(
            f"the bundle has no {', '.join(missing)}: no picture can be drawn; export all components to validate it"
        )
    return find_sizes(bundle).pixels[1]


def choose_prompts(student: Student, prompts: Sequence[str] | None, count: int | None, side: int) -> list[str]:
    """What is drawn: the prompts, default those that came with the student, of which `count` or what suits the pictures' side.

    Raises:
        InputError: there are none.
    """
    chosen = list(student.validation_prompts if prompts is None else prompts)
    if count is None and prompts is None:
        count = SMALL_COUNT if side <= SMALL_PICTURE else LARGE_COUNT
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to validate with")
    if not chosen:
        raise InputError("no prompts to validate with; give --prompts FILE with one prompt a line")
    return chosen[:count]


def _compare(
    bundle: Bundle,
    student: Student,
    prompts: list[str],
    runtime: str | None,
    progress: Progress,
    is_timed: bool,
    compute: Compute,
) -> tuple[list[Measurement], str]:
    """All rows that need pictures, and what ran the exported side."""
    networks = {record.role: record for record in bundle.components}
    draws = make_draws(specialize_like(student, bundle), networks, prompts, compute)
    reference = recall_reference(student, draws, progress, is_timed)
    rounded = draw_rounded(bundle, student, draws, progress)
    exported = draw_exported(bundle, runtime, draws, progress)
    rows = compare_components(bundle, runtime, rounded, progress)
    if student_side(bundle) <= SMALL_PICTURE:
        rows += load_target(bundle.target).compare_rows(bundle, pair_components(bundle, student, rounded))
    error = relative_error(exported.latents, reference.latents)
    note = "this network and those before it together vs PyTorch float32, the largest"
    role = bundle.chain.find_writer(bundle.chain.names.denoised, networks)
    rows.append(Measurement("denoised_relative_error", error, "", role or "", note=note))
    rows += compare_pictures(exported.pictures, rounded.pictures, reference.pictures)
    for judge in list_judges():
        if judge.knows(prompts, student_side(bundle)):
            rows += judge.compare(prompts, exported.pictures, reference.pictures)
    share = quantized_share(bundle, student)
    rows.append(Measurement("quantized_share", share, "", note="of matmul and 1x1-convolution weights"))
    rows += time_components(exported.seconds, reference.seconds)
    _write_sheet(bundle, [("PyTorch float32", reference.pictures), (f"{bundle.target}-{bundle.precision}", exported.pictures)])
    return rows, exported.description


def make_draws(specialized: Student, networks: Mapping[str, Interface], prompts: Sequence[str], compute: Compute = CPU) -> Draws:
    """What all three versions draw of a specialized student with these networks: prompts, noise, what optional networks take."""
    assert specialized.plan is not None
    noise = make_noise(NOISE_SEED, specialized.plan.steps, len(prompts), specialized.latent_shape)
    samples = load_family(specialized.family).make_inputs(specialized, len(prompts))
    inputs = {name: samples[name] for name in specialized.chain.list_given(networks)}
    return Draws(prompts, noise, specialized.plan.guidance, inputs, compute)


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
