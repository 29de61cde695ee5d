"""Stripes: a family for tests that shares nothing with the others: its networks, names, schedule, prompt, and axes of its state.

reader     words, their template around them -> rows of the prompt
hinter     optional, in each step: a state and an outline that the caller gives -> hints
painter    in each step: state [64 tokens, 12], rows, hints -> x0
unpacker   tokens -> picture of 32 x 32; `thin_unpacker` may stand in its place
"""

from __future__ import annotations

from pathlib import Path

from sprint_export.errors import InputError
from sprint_export.nouns.chain import EACH_STEP, Chain, Stage, ValueNames
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Family, Reference


class Stripes(Family):
    """Five roles, four networks at a time."""

    pipelines = ("StripesPipeline",)
    chain = Chain(
        (
            Stage("reader"),
            Stage("hinter", EACH_STEP, optional=True),
            Stage("painter", EACH_STEP),
            Stage("unpacker"),
            Stage("thin_unpacker", replaces="unpacker"),
        ),
        ValueNames("words", "is_word", "tokens", "clean_tokens", "photo", "tick"),
    )
    guidance = 1.0
    text_layers = ("reader.*", "painter.read")
    presets = {"stripes": "Stripes, 32 px"}  # noqa: RUF012 the Protocol says that it is not written to

    def load(
        self, folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS
    ) -> Student:
        from sprint_export.students.stripes.networks import load  # type: ignore[import-not-found]  # a part of the package while the tests run

        student: Student = load(folder, source)
        return student

    def plan_times(self, steps: int) -> tuple[float, ...]:
        if not 1 <= steps <= 4:
            raise InputError(f"steps={steps}: expected 1 to 4")
        return tuple(1 - i / steps for i in range(steps))

    def check_tokenizer(self, student: Student) -> None:
        from sprint_export.students.stripes.reference import check_tokenizer  # type: ignore[import-not-found]  # a part of the package while the tests run

        check_tokenizer(student)

    def specialize(self, student: Student, plan: StepPlan) -> Student:
        from sprint_export.students.stripes.networks import specialize

        specialized: Student = specialize(student, plan)
        return specialized

    def draw_reference(self, student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
        from sprint_export.students.stripes.reference import draw_reference

        reference: Reference = draw_reference(student, draws)
        return reference

    def load_preset(self, preset: str) -> Student:
        return self.tiny()

    def tiny(self, seed: int = 0) -> Student:
        from sprint_export.students.stripes.networks import make_student

        student: Student = make_student(seed)
        return student


FAMILY = Stripes(name="stripes")
