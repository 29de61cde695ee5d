"""What a comparison is asked for, and the prompts, noise and schedule that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError
from sprint_export.noise import make_noise
from sprint_export.nouns.report import Gate
from sprint_export.nouns.student import Student
from sprint_export.students import load_student
from sprint_export.students.family import Draws, load_family
from sprint_export.validate.comparing.figures import PSNR
from sprint_export.validate.own_source import load_own_source

MOST_PICTURES, MOST_LARGE = 64, 8  # by default: of pictures up to SMALL_PICTURE pixels, and of larger ones
DEFAULT_STUDENT = "sprint-tiny"


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

    @property
    def is_open(self) -> bool:
        """Whether how many pictures are drawn is left to their size."""
        return self.count is None and self.prompts is None


@dataclass(frozen=True)
class SeededDraws:
    """What all entries and the reference draw; noise is made where it is asked for, as that of all may not fit into memory.

    Args:
        prompts: B texts.
        seed: of the first one's noise.
        shape: of the noise of one step.
        times: flow times; noise has one step for each.
        guidance: scale.
        is_own: whether the times are the family's own of so many steps.
        compute: where PyTorch draws.
    """

    prompts: Sequence[str]
    seed: int
    shape: tuple[int, ...]
    times: tuple[float, ...]
    guidance: float
    is_own: bool
    compute: Compute = CPU

    def take(self, places: range) -> Draws:
        """Of prompts that follow one another."""
        some = self.prompts[places.start : places.stop]
        noise = make_noise(self.seed + places.start, len(self.times), len(some), self.shape)
        return Draws(some, noise, self.guidance, compute=self.compute, times=() if self.is_own else self.times)


def choose_student(bundles: Sequence[Path]) -> Student:
    """The student that the first bundle names, else the default.

    Raises:
        InputError: it is one that only the user may name.
    """
    from sprint_export.export.bundle import read_bundle

    return load_own_source(read_bundle(bundles[0], verify=False).source) if bundles else load_student(DEFAULT_STUDENT)


def plan_draws(student: Student, question: Question, bundles: Sequence[Path]) -> SeededDraws:
    """Prompts, times and guidance: the first bundle's schedule, else the family's own.

    Raises:
        InputError: there are no prompts, or no such schedule.
    """
    from sprint_export.export.bundle import read_bundle

    count = question.count
    if count is not None and count < 1:
        raise InputError(f"count={count}: expected at least one prompt to compare with")
    prompts = student.validation_prompts if question.prompts is None else question.prompts
    prompts = prompts[: MOST_PICTURES if question.is_open else count]
    if not prompts:
        raise InputError("no prompts to compare with; give --prompts FILE with one prompt a line")
    family = load_family(student.family)
    if bundles:
        plan = read_bundle(bundles[0], verify=False).plan
        times, guidance = tuple(plan.times[row] for row in plan.rows(question.steps)), plan.guidance
    else:
        times, guidance = family.plan_times(1 if question.steps is None else question.steps), family.guidance
    is_own = times == family.plan_times(len(times))
    return SeededDraws(prompts, question.seed, student.latent_shape, times, guidance, is_own, question.compute)
