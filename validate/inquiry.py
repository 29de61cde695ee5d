"""What a validation is asked for, and the prompts and pace that follow; checks that need no bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError
from sprint_export.nouns.report import Gate
from sprint_export.nouns.student import Student
from sprint_export.validate.image_metrics.measuring import MetricChoice, read_choice
from sprint_export.validate.metrics import check_judged
from sprint_export.validate.pace import BUDGET_S, FEWEST, LOOKS, MOST_PICTURES, SMALL_PICTURE, Pace, read_budget
from sprint_export.validate.scorers.command import ScorerCommand


@dataclass(frozen=True)
class Inquiry:
    """What a validation is asked for, beside the bundle and its student.

    Args:
        prompts: default: the validation prompts that came with the student.
        count: how many of them, or with a budget the most; default: as many as decide the gates, at most 512, above 128 px 64.
            Given prompts are all taken.
        budget: seconds, or a text such as 90s, 10m or 1h: as many pictures as fit, at least 4; default: none for pictures up to
            128 px or where `count` or prompts are given, else 3m.
        gates: demands such as 'psnr_db>=30', in place of the precision's defaults on their metrics; all of them hold.
        runtime: as in `open_bundle`.
        provider: likewise.
        ray: the address of a Ray cluster whose workers draw, or "local": a worker for each processor here. The first 64 pictures,
            above 128 px the first 4, are drawn by this process.
        metrics: names of metrics beside those of every report, e.g. lpips,fid; a gate on a metric's row asks for it too.
        metric_weights: a folder with the metrics' weights, asked before the caches of torch and of the hub.
        scorers: processes that score pictures, as NAME=COMMAND.
        compute: where torch draws both of its sides: the reference, and what the bundle's graphs are compared with.
    """

    prompts: Sequence[str] | None = None
    count: int | None = None
    budget: float | str | None = None
    gates: Sequence[str | Gate] = ()
    runtime: str | None = None
    compute: Compute = CPU
    provider: str | None = None
    ray: str | None = None
    metrics: str | Sequence[str] | None = None
    metric_weights: Path | None = None
    scorers: Sequence[str | ScorerCommand] = ()

    @property
    def choice(self) -> MetricChoice:
        """What is to be measured beside what every report has; InputError where a scorer is misspelt."""
        return read_choice(self.metrics, self.metric_weights, self.scorers)

    @property
    def is_open(self) -> bool:
        """Whether nobody said how many pictures: then as many as decide the gates."""
        return self.prompts is None and self.count is None and self.budget is None


def check_gates(student: Student, gates: Sequence[Gate], count: int | None, budget: float | str | None = None) -> None:
    """Refuse, before a bundle is made, gates that its validation on the student's own prompts could not hold.

    Raises:
        InputError: adherence is asked for where prompts are no captions, or there are no prompts.
    """
    prompts, _ = choose_prompts(student, Inquiry(count=count, budget=budget), SMALL_PICTURE)
    check_judged([gate.metric for gate in gates], prompts)


def choose_prompts(student: Student, inquiry: Inquiry, side: int) -> tuple[Sequence[str], Pace]:
    """The prompts and the pace of drawing them; both by the pictures' side in pixels where they are left open.

    Raises:
        InputError: there are no prompts, none is asked for, or the budget is no time.
    """
    chosen = student.validation_prompts if inquiry.prompts is None else inquiry.prompts  # a PromptSet stays one
    count, budget, looks = inquiry.count, read_budget(inquiry.budget), list[int]()
    if inquiry.is_open and side <= SMALL_PICTURE:
        count, looks = LOOKS[-1], list(LOOKS)
    elif inquiry.is_open:
        count, budget = MOST_PICTURES, BUDGET_S
    elif side <= SMALL_PICTURE or inquiry.ray is not None:
        looks = [LOOKS[0] if side <= SMALL_PICTURE else FEWEST]  # of more pictures, single networks are told apart on the first
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to validate with")
    if not chosen:
        raise InputError("no prompts to validate with; give --prompts FILE with one prompt a line")
    return chosen[:count], Pace(len(chosen[:count]), budget, looks=looks)
