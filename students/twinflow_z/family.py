"""TwinFlow-Z-Image-Turbo: a Z-Image pipeline whose transformer was distilled to 1 to 4 steps, with a second time embedder.

Reads a diffusers folder lazily (checkpoint.py), specializes the networks to their fixed steps (specialized.py, folds.py), and
says what it covers (configs.py) and what the reference is (reference.py).
Sources: arXiv 2512.05150 and inclusionAI/TwinFlow (sampler, time formula), diffusers' transformer_z_image.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Migration, StepPlan, Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Reference, WholeStock
from sprint_export.students.folder import read_pipeline
from sprint_export.students.twinflow_family import TwinFlow
from sprint_export.students.twinflow_z.published import HUB_IDS, PRESETS

if TYPE_CHECKING:
    from sprint_export.students.twinflow_stock import TwinFlowStock

SECOND_EMBEDDER = "t_embedder_2."  # the tensors that tell the folder from a plain Z-Image's


class TwinFlowZ(TwinFlow):
    """Text encoder with the transformer's text refiner, transformer in the sampler's loop, decoder."""

    pipelines = ("ZImagePipeline",)
    marks = (f"transformer/{SECOND_EMBEDDER}",)
    text_layers = ("text_encoder.model.*",)  # the refiner attends to padding, a learnt token
    presets = {name: preset.title for name, preset in PRESETS.items()}  # noqa: RUF012 the Protocol says that it is not written to
    hub_ids = HUB_IDS

    def reads(self, path: Path, parts: Parts) -> bool:
        is_pipeline = path.is_dir() and read_pipeline(path) in self.pipelines
        return is_pipeline and (bool(parts.lora) or super().reads(path, parts))  # a LoRA's student is a stock one with changes

    def load(
        self, folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS
    ) -> Student:
        from sprint_export.students.twinflow_z.checkpoint import load

        return load(folder, source, revision, variant)

    def specialize(self, student: Student, plan: StepPlan) -> Student:
        from sprint_export.students.twinflow_z.specialized import specialize

        return specialize(student, plan)

    def check_free_sizes(self, student: Student) -> None:
        """Every student of the family can."""

    def free_sizes(self, student: Student) -> Student:
        from sprint_export.students.twinflow_z.specialized import free_sizes

        return free_sizes(student)

    def list_migrations(self, student: Student, role: str) -> tuple[Migration, ...]:
        from sprint_export.students.twinflow_z.smooth import list_migrations

        return list_migrations(student, role)

    def draw_reference(self, student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
        from sprint_export.students.twinflow_z.reference import draw_reference

        return draw_reference(student, draws, progress)

    def open_stock(self, student: Student, folder: Path, has_networks: bool = True) -> TwinFlowStock:
        self.check_stock(has_networks)
        from sprint_export.students.twinflow_z.stock_pipeline import open_folder

        return open_folder(student, folder)

    def open_whole(self, student: Student, plan: StepPlan, device: str, dtype: str) -> WholeStock:
        from sprint_export.students.twinflow_stock import WholeTwinFlow
        from sprint_export.students.twinflow_z.stock_pipeline import open_own

        return WholeTwinFlow(open_own(student, device, dtype), plan)

    def load_preset(self, preset: str) -> Student:
        from sprint_export.students.twinflow_z.presets import load_preset

        return load_preset(preset)

    def tiny(self, seed: int = 0) -> Student:
        from sprint_export.students.twinflow_z.presets import tiny

        return tiny(seed)


FAMILY = TwinFlowZ(name="twinflow_z")
