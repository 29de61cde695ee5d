"""What families that TwinFlow distilled from a large diffusers pipeline share: three networks, its times, a chat tokenizer.

SANA's students of TwinFlow are SANA-Sprint's but for their times (twinflow_sana/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sprint_export.errors import RefusedError
from sprint_export.nouns.chain import EACH_STEP, Chain, Stage, ValueNames
from sprint_export.nouns.student import Student
from sprint_export.students.family import PICTURES_INSTEAD, Draws, Family
from sprint_export.students.twinflow_times import DTYPE, twinflow_times

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sprint_export.students.twinflow_stock import TwinFlowStock

PIXELS = 1024  # of a side; no config says it, the stock pipelines' default does
TOKENS = 1024  # of the longest text: the stock pipelines' limit


@dataclass(frozen=True)
class Preset:
    """Configs of the three networks, the side of the pictures in pixels, and tokens of the longest text."""

    title: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    pixels: int = PIXELS
    tokens: int = TOKENS


class TwinFlow(Family):
    """Text encoder, transformer in the sampler's loop, decoder; without guidance, which the released sampler does not take."""

    chain = Chain(
        (Stage("text_encoder"), Stage("transformer", EACH_STEP), Stage("vae_decoder")),
        ValueNames("input_ids", "prompt_mask", "latents", "denoised", "image"),
    )
    guidance = 0.0
    time_dtype = DTYPE
    starts_from_noise = True
    local_roles = ("vae_decoder",)
    holds_prefix = True

    def plan_times(self, steps: int) -> tuple[float, ...]:
        return twinflow_times(steps)

    def check_stock(self, has_networks: bool) -> None:
        """Refuse a pipeline whose networks another library runs: none of them knows TwinFlow's second time.

        Raises:
            RefusedError: it is one.
        """
        if not has_networks:
            raise RefusedError(f"students of {self.name} are drawn from torch's networks alone; {PICTURES_INSTEAD}")

    def draw_stock(self, student: Student, pipeline: TwinFlowStock, draws: Draws) -> npt.NDArray[np.float32]:
        return pipeline.draw_floats(draws.prompts, draws.noise, draws.times or self.plan_times(len(draws.noise)))

    def check_tokenizer(self, student: Student) -> None:
        from sprint_export.students.chat_prompt import check_ids

        check_ids(student)
