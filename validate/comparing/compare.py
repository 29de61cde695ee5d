"""compare_entries: bundles and outputs of other programs beside stock PyTorch, in one table, one page and one JSON file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import MANIFEST
from sprint_export.cache import hash_question
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import write_text
from sprint_export.json_forms import to_json
from sprint_export.nouns.student import Student
from sprint_export.own_files import check_own_files
from sprint_export.progress import Progress, quiet
from sprint_export.runtimes.hub import find_bundle
from sprint_export.validate.comparing.comparison import FORMAT, Comparison
from sprint_export.validate.comparing.entry import Setting, find_kind
from sprint_export.validate.comparing.question import MOST_LARGE, Question, SeededDraws, choose_student, plan_draws
from sprint_export.validate.comparing.ranking import check_names
from sprint_export.validate.comparing.task import Outcome, Task, run_task
from sprint_export.validate.gates import read_gates
from sprint_export.validate.image_metrics.measuring import MetricChoice, choose_metrics
from sprint_export.validate.kept import Kept, hold_kept
from sprint_export.validate.pace import SMALL_PICTURE
from sprint_export.validate.portion_reference import PortionReference
from sprint_export.validate.portions import Portions
from sprint_export.validate.side_by_side import OWNER_LETTERS, UNFINISHED

JSON, PAGE = "comparison.json", "comparison.html"
ADVICE = "choose another --out"
ONE = Portions(1, 1, 0, 0)  # of one prompt, whose picture stays in memory


def compare_entries(
    folders: Mapping[str, str | Path],
    out: Path,
    student: Student | None = None,
    progress: Progress = quiet,
    **asked: Any,
) -> Comparison:
    """Draw the same prompts and noise with every entry and with stock PyTorch; write comparison.json and comparison.html.

    A killed comparison goes on where it was.

    Args:
        folders: by the name of the entry: bundles, by their hub ids too, folders of other programs, folders of pictures.
        out: the folder for what is written; it is made.
        student: unspecialized, whose stock pipeline is the reference; default: the first bundle's, where that is embedded or
            `random:...`, else sprint-tiny.
        progress: is told (step, done, total).
        asked: fields of `Question`, by name.

    Returns:
        The entries, best first.

    Raises:
        InputError, BundleError: an entry is none, or does not fit the student, the prompts or the pictures.
        MachineError: a library is missing, memory or the disk is too small.
    """
    check_out(out)
    check_own_files(out, (JSON, PAGE))
    question = Question(**asked)
    gates = read_gates(question.gates)
    asked_rows = [question.rank_by, *(gate.metric for gate in gates)]
    check_names(asked_rows)
    metrics = choose_metrics(MetricChoice(question.metrics, question.metric_weights), asked_rows)
    if not folders:
        raise InputError("nothing to compare; expected folders: bundles, other programs' folders, or folders of pictures")
    found = {name: find_bundle(folder, progress) for name, folder in folders.items()}
    kinds = {name: find_kind(folder) for name, folder in found.items()}
    bundles = [folder for folder in found.values() if (folder / MANIFEST).is_file()]
    student = student or choose_student(bundles)
    draws = plan_draws(student, question, bundles)
    with hold_kept() as holder:
        kept = Kept(UNFINISHED, _name_owner(found, out, question, draws.prompts))
        draws, pixels = _look_at_size(student, question, draws, PortionReference(student, draws, ONE, kept, holder, progress))
        setting = Setting(student, draws.prompts, question.seed, draws.times, draws.guidance, pixels)
        outcome = run_task(Task(found, kinds, student, question, gates, metrics, draws, setting, progress), kept, holder)
        write_comparison(out, outcome)
        kept.discard()
    return outcome.comparison


def check_out(out: Path) -> None:
    """Whether the page can be written into this folder, or the folder be made, before hours are spent on what it shows.

    Raises:
        InputError: it cannot.
    """
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        what = "cannot be written to" if there.is_dir() else "is no folder"
        raise InputError(f"--out {out}: {there} {what}; expected a folder for {PAGE} and {JSON}: {ADVICE}")


def _name_owner(folders: Mapping[str, Path], out: Path, question: Question, prompts: Sequence[str]) -> str:
    """What is kept until this very comparison is written."""
    asked = [question.seed, question.steps, question.one_at_a_time, [*prompts]]
    places = {name: str(folder.resolve()) for name, folder in folders.items()}
    return hash_question([str(out.resolve()), places, asked])[:OWNER_LETTERS]


def _look_at_size(
    student: Student, question: Question, draws: SeededDraws, reference: PortionReference
) -> tuple[SeededDraws, tuple[int, int]]:
    """Height and width of the reference's first picture; fewer prompts where pictures are large and nobody says how many."""
    height, width = reference.recall(range(1)).pictures.shape[1:3]
    if question.is_open and max(height, width) > SMALL_PICTURE:
        draws = replace(draws, prompts=draws.prompts[:MOST_LARGE])
    return draws, (height, width)


def write_comparison(out: Path, outcome: Outcome) -> None:
    """comparison.json and comparison.html.

    Raises:
        InputError: they cannot be written there. MachineError: the disk is full.
    """
    from sprint_export.validate.comparing.page import render_page

    with clear_disk_errors(out, ADVICE):
        write_text(out / JSON, format_comparison(outcome.comparison))
        write_text(out / PAGE, render_page(outcome.comparison, outcome.reference, outcome.pictures))


def format_comparison(comparison: Comparison) -> str:
    """The text of comparison.json; what is no number is null."""
    return json.dumps(_clear({"format": FORMAT, **to_json(comparison)}), indent=1, allow_nan=False) + "\n"


def _clear(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clear(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clear(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
