"""compare_entries: bundles and outputs of other programs beside stock PyTorch, in one table, one page and one JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sprint_export.bundle_files import MANIFEST
from sprint_export.compute import CPU, Compute
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import write_text
from sprint_export.json_forms import to_json
from sprint_export.noise import make_noise
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, quiet
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.validate.bundle import load_source
from sprint_export.validate.comparing.comparison import FORMAT, Comparison, EntryResult
from sprint_export.validate.comparing.drawing import Side, draw_all
from sprint_export.validate.comparing.entry import EntryKind, Label, Setting, find_kind
from sprint_export.validate.comparing.figures import PSNR, Measured, compare_pair, measure_entry
from sprint_export.validate.comparing.ranking import check_asked, check_names, find_front, judge_entry, order_entries
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.gates import read_gates
from sprint_export.validate.image_metrics.measuring import MetricChoice, choose_metrics, measure_pictures
from sprint_export.validate.image_metrics.metric import Comparison as ImageComparison
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.pace import SMALL_PICTURE
from sprint_export.validate.reference_cache import recall_reference

if TYPE_CHECKING:
    from sprint_export.validate.comparing.drawing import UInt8

JSON, PAGE = "comparison.json", "comparison.html"
MOST_PICTURES, MOST_LARGE = 64, 8  # by default: of pictures up to SMALL_PICTURE pixels, and of larger ones
DEFAULT_STUDENT = "sprint-tiny"
ADVICE = "choose another --out"


@dataclass(frozen=True)
class Question:
    """What a comparison is asked for, beside its entries and their student.

    Args:
        prompts: default: the validation prompts that came with the student.
        count: how many of them; default: all given, else at most 64, and 8 of pictures larger than 128 px.
        seed: of the first picture.
        steps: of the sampler; default: the first bundle's, else 1.
        gates: that each entry has to meet.
        rank_by: a metric.
        metrics: image metrics to measure too, e.g. lpips.
        metric_weights: a folder with their weights.
        one_at_a_time: open an entry when those before it have drawn: for networks that do not fit memory together.
        compute: where PyTorch draws the reference.
    """

    prompts: Sequence[str] | None = None
    count: int | None = None
    seed: int = 0
    steps: int | None = None
    gates: Sequence[str | Gate] = ()
    rank_by: str = PSNR
    metrics: Sequence[str] = ()
    metric_weights: Path | None = None
    one_at_a_time: bool = False
    compute: Compute = CPU


def compare_entries(
    folders: Mapping[str, Path],
    out: Path,
    student: Student | None = None,
    progress: Progress = quiet,
    **asked: Any,
) -> Comparison:
    """Draw the same prompts and noise with every entry and with stock PyTorch; write comparison.json and comparison.html.

    Args:
        folders: by the name of the entry: bundles, folders of other programs, folders of pictures.
        out: the folder for what is written; it is made.
        student: unspecialized, whose stock pipeline is the reference; default: the first bundle's, where that is embedded or
            `random:...`, else sprint-tiny.
        progress: is told (step, done, total).
        asked: fields of `Question`, by name.

    Returns:
        The entries, best first.

    Raises:
        InputError, BundleError: an entry is none, or does not fit the student, the prompts or the pictures.
        MachineError: a library is missing, or the disk is full.
    """
    question = Question(**asked)
    gates = read_gates(question.gates)
    asked_rows = [question.rank_by, *(gate.metric for gate in gates)]
    check_names(asked_rows)
    metrics = choose_metrics(MetricChoice(question.metrics, question.metric_weights), asked_rows)
    kinds = {name: find_kind(folder) for name, folder in folders.items()}
    if not kinds:
        raise InputError("nothing to compare; expected folders: bundles, other programs' folders, or folders of pictures")
    bundles = [folder for name, folder in folders.items() if (folder / MANIFEST).is_file()]
    student = student or _choose_student(bundles)
    draws = make_draws(student, question, bundles)
    first = recall_reference(student, draws.take([0]), progress)
    if question.count is None and question.prompts is None and max(first.pictures.shape[1:3]) > SMALL_PICTURE:
        draws = draws.take(range(min(MOST_LARGE, len(draws.prompts))))
    own = load_family(student.family).plan_times(len(draws.noise))
    setting = Setting(
        student,
        draws.prompts,
        question.seed,
        draws.times or own,
        draws.guidance,
        (first.pictures.shape[1], first.pictures.shape[2]),
    )
    openers = {name: partial(kind.open, folders[name], setting) for name, kind in kinds.items()}
    labels, sides = draw_all(openers, setting, draws.noise, question.one_at_a_time, progress)
    reference = recall_reference(student, draws, progress).pictures
    measured = {}
    for name, entry in labels.items():
        shown = ImageComparison(np.stack(sides[name].pictures), reference, draws.prompts)
        found = measure_pictures(metrics, shown, mean_interval, question.metric_weights, question.compute, progress)
        measured[name] = measure_entry(entry, sides[name], draws.prompts, reference).join(found)
    check_asked([each.rows for each in measured.values()], gates)
    results = _rank(folders, kinds, labels, sides, measured, (question, gates, draws.prompts))
    comparison = Comparison(
        student.source,
        describe_machine() + ("" if question.compute.is_cpu else f"; {question.compute.description}"),
        len(draws.noise),
        question.seed,
        tuple(draws.prompts),
        question.rank_by,
        results,
        _list_unchecked(results, measured),
    )
    write_comparison(out, comparison, reference, {name: np.stack(side.pictures) for name, side in sides.items()})
    return comparison


def _choose_student(bundles: Sequence[Path]) -> Student:
    """The student that the first bundle names, else the default.

    Raises:
        InputError: it is one that only the user may name.
    """
    from sprint_export.export.bundle import read_bundle

    return load_source(read_bundle(bundles[0], verify=False).source) if bundles else load_student(DEFAULT_STUDENT)


def make_draws(student: Student, question: Question, bundles: Sequence[Path]) -> Draws:
    """Prompts, noise, times and guidance: the first bundle's schedule, else the family's own.

    Raises:
        InputError: there are no prompts, or no such schedule.
    """
    from sprint_export.export.bundle import read_bundle

    prompts = list(student.validation_prompts if question.prompts is None else question.prompts)
    count = question.count
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to compare with")
    if count is None and question.prompts is None:
        count = MOST_PICTURES
    prompts = prompts[:count]
    if not prompts:
        raise InputError("no prompts to compare with; give --prompts FILE with one prompt a line")
    family = load_family(student.family)
    if bundles:
        plan = read_bundle(bundles[0], verify=False).plan
        times, guidance = tuple(plan.times[row] for row in plan.rows(question.steps)), plan.guidance
    else:
        times, guidance = family.plan_times(1 if question.steps is None else question.steps), family.guidance
    noise = make_noise(question.seed, len(times), len(prompts), student.latent_shape)
    is_own = times == family.plan_times(len(times))
    return Draws(prompts, noise, guidance, compute=question.compute, times=() if is_own else times)


def _rank(
    folders: Mapping[str, Path],
    kinds: Mapping[str, EntryKind],
    labels: Mapping[str, Label],
    sides: Mapping[str, Side],
    measured: Mapping[str, Measured],
    asked: tuple[Question, Sequence[Gate], Sequence[str]],
) -> tuple[EntryResult, ...]:
    """The entries, best first."""
    question, gates, prompts = asked
    rows = {name: each.rows for name, each in measured.items()}
    order, front = order_entries(rows, question.rank_by), find_front(rows)
    best = order[0]
    results = []
    for rank, name in enumerate(order, 1):
        judged, verdict = judge_entry(rows[name], gates, measured[name].figures)
        pair: tuple[Measurement, ...] = ()
        if name != best:
            is_timed = all(labels[each].is_measured and labels[each].is_in_turn for each in (name, best))
            pair = compare_pair(measured[name], measured[best], (sides[name], sides[best]), prompts, is_timed)
        results.append(
            EntryResult(
                name,
                kinds[name].title,
                str(folders[name]),
                labels[name].description,
                rank,
                judged,
                pair,
                tuple(sides[name].faults),
                {metric: tuple(map(float, values)) for metric, values in measured[name].figures.items()},
                verdict,
                name in front,
                labels[name].is_measured,
            )
        )
    return tuple(results)


def _list_unchecked(results: Sequence[EntryResult], measured: Mapping[str, Measured]) -> tuple[str, ...]:
    """A sentence for each entry whose latency or size nobody measured, and each metric that could not be."""
    sentences = [
        f"{each.name}: its pictures came as files; its latency and size are what its files say, if anything"
        for each in results
        if not each.is_measured
    ]
    return tuple(dict.fromkeys([*sentences, *(sentence for each in measured.values() for sentence in each.unchecked)]))


def write_comparison(out: Path, comparison: Comparison, reference: UInt8, pictures: Mapping[str, UInt8]) -> None:
    """comparison.json and comparison.html; `pictures` [B, H, W, 3] by entry.

    Raises:
        InputError: they cannot be written there. MachineError: the disk is full.
    """
    from sprint_export.validate.comparing.page import render_page

    with clear_disk_errors(out, ADVICE):
        write_text(out / JSON, format_comparison(comparison))
        write_text(out / PAGE, render_page(comparison, reference, pictures))


def format_comparison(comparison: Comparison) -> str:
    """The text of comparison.json; what is no number is null."""
    return json.dumps(_clear({"format": FORMAT, **to_json(comparison)}), indent=1, allow_nan=False) + "\n"


def _clear(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clear(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clear(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
