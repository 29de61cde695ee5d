"""A comparison whose demands are checked: entries drawn in turn, the reference, what is measured of both, the ranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from sprint_export.cache import hash_question
from sprint_export.errors import MachineError
from sprint_export.nouns.report import Gate, Measurement
from sprint_export.nouns.student import Student
from sprint_export.process_memory import find_free_memory
from sprint_export.progress import Progress
from sprint_export.validate.comparing.comparison import Comparison, EntryResult
from sprint_export.validate.comparing.drawing import Noise, Side, Turns, draw_all
from sprint_export.validate.comparing.entry import EntryKind, Label, Setting
from sprint_export.validate.comparing.figures import Measured, compare_pair, measure_entry
from sprint_export.validate.comparing.kept_turns import KeptTurns, describe_folder
from sprint_export.validate.comparing.question import Question, SeededDraws
from sprint_export.validate.comparing.ranking import check_asked, find_front, judge_entry, order_entries
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.measuring import measure_pictures, pair_pictures
from sprint_export.validate.image_metrics.metric import ImageMetric
from sprint_export.validate.kept import Holder, Kept
from sprint_export.validate.machine import describe_machine
from sprint_export.validate.portion_reference import PortionReference
from sprint_export.validate.portions import Portions, check_disk, divide_prompts
from sprint_export.validate.rows import Rows
from sprint_export.validate.side_by_side import list_installed

TEXT_BYTES = 1 << 24  # of what a text encoder gives of one prompt: 1024 tokens of 4096 values


@dataclass(frozen=True)
class Task:
    """A comparison whose demands are checked.

    Args:
        folders: by the name of the entry.
        kinds: likewise.
        student: unspecialized, whose stock pipeline is the reference.
        question: what is asked for.
        gates: that each entry has to meet.
        metrics: image metrics to measure too.
        draws: prompts and noise.
        setting: what every entry draws.
        progress: is told (step, done, total).
    """

    folders: Mapping[str, Path]
    kinds: Mapping[str, EntryKind]
    student: Student
    question: Question
    gates: tuple[Gate, ...]
    metrics: Sequence[ImageMetric]
    draws: SeededDraws
    setting: Setting
    progress: Progress


@dataclass(frozen=True)
class Outcome:
    """What a comparison found, and the pictures uint8 [B, H, W, 3] of the reference and of each entry by its name."""

    comparison: Comparison
    reference: Rows
    pictures: Mapping[str, Rows]


def run_task(task: Task, kept: Kept, holder: Holder) -> Outcome:
    """Draw with every entry, then with the reference; measure, judge and rank.

    Args:
        task: what is compared.
        kept: where pictures are kept until all is written.
        holder: says that this run reads what is kept.

    Raises:
        InputError, BundleError: an entry does not fit. MachineError: memory or the disk is too small.
    """
    student, draws, prompts = task.student, task.draws, task.draws.prompts
    check_memory(task)
    row = 3 * math.prod(task.setting.pixels) + 4 * math.prod(student.latent_shape)
    portions = divide_prompts(len(prompts), row, TEXT_BYTES, 1 + len(task.folders))
    drawing = PortionReference(student, draws, portions, kept, holder, task.progress)
    turns = plan_turns(task, kept, portions.is_kept, holder)
    if portions.is_kept:
        _check_disk(task, portions, drawing, turns, holder)
    openers = {name: partial(kind.open, task.folders[name], task.setting) for name, kind in task.kinds.items()}
    labels, sides = draw_all(openers, turns, task.question.one_at_a_time)
    reference = drawing.recall(range(len(prompts))).pictures
    drawing.references.bound()
    measured = {name: _measure(task, label, sides[name], reference) for name, label in labels.items()}
    check_asked([each.rows for each in measured.values()], task.gates)
    results = _rank(task, labels, sides, measured)
    compute = task.question.compute
    comparison = Comparison(
        student.source,
        describe_machine() + ("" if compute.is_cpu else f"; {compute.description}"),
        len(draws.times),
        draws.seed,
        tuple(prompts),
        task.question.rank_by,
        results,
        _list_unchecked(results, measured),
    )
    return Outcome(comparison, reference, {name: side.pictures for name, side in sides.items()})


def check_memory(task: Task) -> None:
    """Whether this machine's memory holds what the entries' files do, before any of them is opened.

    Raises:
        MachineError: it does not.
    """
    sizes = {name: kind.weigh(task.folders[name]) for name, kind in task.kinds.items()}
    largest, free = max(sizes, key=lambda name: sizes[name]), find_free_memory()
    needed = sizes[largest] if task.question.one_at_a_time else sum(sizes.values())
    if free is None or needed <= free:
        return
    if sizes[largest] > free:
        raise MachineError(
            f"{largest}: its networks have {sizes[largest] / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free; free some, or "
            "give a folder of the pictures that it draws elsewhere"
        )
    raise MachineError(
        f"the networks of {len(sizes)} entries have {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB of memory are free; open them one "
        "after the other: --one-at-a-time"
    )


def plan_turns(task: Task, kept: Kept, is_needed: bool, holder: Holder) -> Turns:
    """How entries draw, and where their pictures are kept: `is_needed` where they do not stay in memory."""
    draws = task.draws
    decided = [task.student.fingerprint, task.student.source, draws.times, draws.guidance, list_installed()]
    question = hash_question([*decided, torch.backends.cpu.get_cpu_capability()])
    entries = {name: describe_folder(kind.name, task.folders[name]) for name, kind in task.kinds.items()}

    def make_noise(place: int) -> Noise:
        return draws.take(range(place, place + 1)).noise

    return Turns(task.setting, make_noise, KeptTurns(kept, question, entries, is_needed), task.progress, holder.renew)


def _check_disk(task: Task, portions: Portions, drawing: PortionReference, turns: Turns, holder: Holder) -> None:
    places = range(portions.count)
    groups = [[name] for name in task.folders] if task.question.one_at_a_time else [list(task.folders)]

    def list_kept() -> Iterator[Path]:
        for some in portions.split(places):
            yield from drawing.list_paths(some)
        for group in groups:
            for place in places:
                yield from turns.locate(group, place)

    check_disk(portions, portions.sides, holder, list_kept, task.progress)


def _measure(task: Task, label: Label, side: Side, reference: Rows) -> Measured:
    """An entry's own figures, and those of image metrics."""
    question, prompts = task.question, task.draws.prompts
    shown = pair_pictures(prompts, side.pictures, reference)
    found = measure_pictures(task.metrics, shown, mean_interval, question.metric_weights, question.compute, task.progress)
    return measure_entry(label, side, prompts, reference).join(found)


def _rank(
    task: Task, labels: Mapping[str, Label], sides: Mapping[str, Side], measured: Mapping[str, Measured]
) -> tuple[EntryResult, ...]:
    """The entries, best first."""
    prompts = task.draws.prompts
    rows = {name: each.rows for name, each in measured.items()}
    order, front = order_entries(rows, task.question.rank_by), find_front(rows)
    best = order[0]
    results = []
    for rank, name in enumerate(order, 1):
        judged, verdict = judge_entry(rows[name], task.gates, measured[name].figures)
        pair: tuple[Measurement, ...] = ()
        if name != best:
            is_timed = all(labels[each].is_measured and labels[each].is_in_turn for each in (name, best))
            pair = compare_pair(measured[name], measured[best], (sides[name], sides[best]), prompts, is_timed)
        results.append(
            EntryResult(
                name,
                task.kinds[name].title,
                str(task.folders[name]),
                labels[name].description,
                rank,
                judged,
                pair,
                tuple(sides[name].faults),
                {metric: tuple(map(float, values)) for metric, values in measured[name].figures.items()},
                verdict,
                name in front,
                labels[name].is_measured,
                measured[name].flipped,
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
