"""TwinFlow-Qwen-Image: a Qwen-Image pipeline whose transformer was distilled to 1 to 4 steps, with a second time embedder.

Reads a diffusers folder lazily (checkpoint.py), specializes the networks to their fixed steps (specialized.py, folds.py), and
says what it covers (configs.py) and what the reference is (reference.py). A prompt is read within the stock pipeline's template.
Sources: arXiv 2512.05150 and inclusionAI/TwinFlow (sampler, time formula), diffusers' transformer_qwenimage.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Migration, StepPlan, Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Reference, WholeStock
from sprint_export.students.twinflow_family import TwinFlow
from sprint_export.students.twinflow_qwen.published import HUB_IDS, PRESETS
from sprint_export.students.twinflow_times import SCHEDULES

if TYPE_CHECKING:
    from sprint_export.students.twinflow_stock import TwinFlowStock

SECOND_EMBEDDER = "time_text_embed_2."  # the tensors that tell the folder from a plain Qwen-Image's


class TwinFlowQwen(TwinFlow):
    """Text encoder, transformer in the sampler's loop, decoder."""

    pipelines = ("QwenImagePipeline",)  # of a plain Qwen-Image too, which `load` refuses with what it lacks
    text_layers = (
        "text_encoder.*",
        "transformer.txt_in",
        "transformer.*.attn.add_*_proj",
        "transformer.*.attn.to_add_out",
        "transformer.*.txt_mlp.*",
    )
    presets = {name: preset.title for name, preset in PRESETS.items()}  # noqa: RUF012 the Protocol says that it is not written to
    hub_ids = HUB_IDS
    schedules = SCHEDULES

    def load(
        self, folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS
    ) -> Student:
        from sprint_export.students.twinflow_qwen.checkpoint import load

        return load(folder, source, revision, variant, parts)

    def specialize(self, student: Student, plan: StepPlan) -> Student:
        from sprint_export.students.twinflow_qwen.specialized import specialize

        return specialize(student, plan)

    def check_free_sizes(self, student: Student) -> None:
        """Every student of the family can."""

    def free_sizes(self, student: Student) -> Student:
        from sprint_export.students.twinflow_qwen.specialized import free_sizes

        return free_sizes(student)

    def list_migrations(self, student: Student, role: str) -> tuple[Migration, ...]:
        from sprint_export.students.twinflow_qwen.smooth import list_migrations

        return list_migrations(student, role)

    def draw_reference(self, student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
        from sprint_export.students.twinflow_qwen.reference import draw_reference

        return draw_reference(student, draws, progress)

    def open_stock(self, student: Student, folder: Path, has_networks: bool = True) -> TwinFlowStock:
        self.check_stock(has_networks)
        from sprint_export.students.twinflow_qwen.stock_pipeline import open_folder

        return open_folder(student, folder)

    def open_whole(self, student: Student, plan: StepPlan, device: str, dtype: str) -> WholeStock:
        from sprint_export.students.twinflow_qwen.stock_pipeline import open_own
        from sprint_export.students.twinflow_stock import WholeTwinFlow

        return WholeTwinFlow(open_own(student, device, dtype), plan)

    def load_preset(self, preset: str) -> Student:
        from sprint_export.students.twinflow_qwen.presets import load_preset

        return load_preset(preset)

    def tiny(self, seed: int = 0) -> Student:
        from sprint_export.students.twinflow_qwen.presets import tiny

        return tiny(seed)


FAMILY = TwinFlowQwen(name="twinflow_qwen")
