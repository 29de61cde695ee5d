"""SANA-Sprint and TBCM students (same network and sampler): SanaTransformer2DModel, Gemma-2, DC-AE.

Reads a diffusers folder (checkpoint.py) or a native .pth (native.py) lazily, specializes the networks to their fixed steps
(specialized.py), and says what it covers (configs.py), how prompts become ids (prompt.py), what the reference is (reference.py).
Sources: arXiv 2503.09641 (SANA-Sprint), 2511.20410 (TBCM), diffusers pipeline_sana_sprint.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.nouns.chain import EACH_STEP, Chain, Stage, ValueNames
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Migration, StepPlan, Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Family, Reference, WholeStock
from sprint_export.students.sana_sprint.published import COMPLETED_BY, HUB_IDS, PRESETS
from sprint_export.students.sana_sprint.times import SCHEDULES, trigflow_times

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sprint_export.compute import Compute
    from sprint_export.students.family import Array


class SanaSprint(Family):
    """Text encoder, transformer in the sampler's loop, decoder; where they are asked for, an encoder and a ControlNet."""

    pipelines = ("SanaSprintPipeline",)
    chain = Chain(
        (
            Stage("text_encoder"),
            Stage("vae_encoder", optional=True),
            Stage("controlnet", EACH_STEP, optional=True),
            Stage("transformer", EACH_STEP),
            Stage("vae_decoder"),
        ),
        ValueNames(
            *("input_ids", "prompt_mask", "latents", "denoised", "image"),
            source="source_image",
            encoded="source_latents",
            scale="control_scale",
        ),
    )
    guidance = 4.5  # SanaSprintPipeline.__call__'s default
    text_layers = (
        "text_encoder.*",
        "transformer.caption_projection.*",
        "transformer.*.attn2.to_k",
        "transformer.*.attn2.to_v",
        "controlnet.caption_projection.*",
        "controlnet.*.attn2.to_k",
        "controlnet.*.attn2.to_v",
    )
    local_roles = ("vae_decoder",)  # convolutions, and sums over positions that are divided by their number
    presets = {name: preset.title for name, preset in PRESETS.items()}  # noqa: RUF012 the Protocol says that it is not written to
    hub_ids = HUB_IDS
    schedules = SCHEDULES
    completed_by = COMPLETED_BY
    notices = (
        "Released SANA-Sprint checkpoints hold Gemma 2's text encoder and tokenizer: Gemma Terms of Use, "
        "https://ai.google.dev/gemma/terms, and the notice that they ask for",
    )
    holds_prefix = True

    def load(
        self, folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS
    ) -> Student:
        if folder.is_file():
            from sprint_export.students.sana_sprint import native

            return native.load(folder, source, variant, parts)
        from sprint_export.students.sana_sprint.checkpoint import load

        return load(folder, source, revision, variant)

    def plan_times(self, steps: int) -> tuple[float, ...]:
        return trigflow_times(steps)

    def check_tokenizer(self, student: Student) -> None:
        from sprint_export.students.sana_sprint.prompt import check_tokenizer

        check_tokenizer(student)

    def specialize(self, student: Student, plan: StepPlan) -> Student:
        from sprint_export.students.sana_sprint.specialized import specialize

        return specialize(student, plan)

    def arrange_channels_first(self, student: Student) -> Student:
        from sprint_export.students.sana_sprint.specialized import arrange_channels_first

        return arrange_channels_first(student)

    def check_free_sizes(self, student: Student) -> None:
        from sprint_export.students.sana_sprint.specialized import check_free_sizes

        check_free_sizes(student)

    def free_sizes(self, student: Student) -> Student:
        from sprint_export.students.sana_sprint.specialized import free_sizes

        return free_sizes(student)

    def list_migrations(self, student: Student, role: str) -> tuple[Migration, ...]:
        from sprint_export.students.sana_sprint.smooth import list_migrations

        return list_migrations(student, role)

    def draw_reference(self, student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
        from sprint_export.students.sana_sprint.reference import draw_reference

        return draw_reference(student, draws, progress)

    def open_stock(self, student: Student, folder: Path, has_networks: bool = True) -> Any:
        from sprint_export.students.sana_sprint.stock_folder import open_stock

        return open_stock(student, folder, has_networks)

    def draw_stock(self, student: Student, pipeline: Any, draws: Draws) -> npt.NDArray[np.float32]:
        from sprint_export.students.sana_sprint.stock_folder import draw_stock

        return draw_stock(student, pipeline, draws)

    def open_whole(self, student: Student, plan: StepPlan, device: str, dtype: str) -> WholeStock:
        from sprint_export.students.sana_sprint.whole_stock import SanaStock

        return SanaStock(student, plan, device, dtype)

    def replace_decoder(self, student: Student, folder: Path) -> Student:
        from sprint_export.students.sana_sprint.checkpoint import replace_decoder

        return replace_decoder(student, folder)

    def decode_own(self, student: Student, latents: npt.NDArray[np.float32], compute: Compute) -> npt.NDArray[np.uint8]:
        from sprint_export.students.sana_sprint.reference import decode_own

        return decode_own(student, latents, compute)

    def add_encoder(self, student: Student) -> Student:
        from sprint_export.students.sana_sprint.checkpoint import add_encoder

        return add_encoder(student)

    def add_controlnet(self, student: Student, folder: Path) -> Student:
        from sprint_export.students.sana_sprint.checkpoint import add_controlnet

        return add_controlnet(student, folder)

    def make_inputs(self, student: Student, prompts: Sequence[str], first: int = 0) -> dict[str, Array]:
        from sprint_export.students.sana_sprint.drawings import make_inputs

        return make_inputs(student, prompts, first)

    def load_preset(self, preset: str) -> Student:
        from sprint_export.students.sana_sprint.presets import load_preset

        return load_preset(preset)

    def tiny(self, seed: int = 0) -> Student:
        from sprint_export.students.sana_sprint.presets import tiny

        return tiny(seed)


FAMILY = SanaSprint(name="sana_sprint")
