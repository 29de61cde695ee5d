"""TwinFlow students of SANA's architecture: SANA-Sprint's folder, but for tensors of a second time embedder.

No such student is published; what is covered is the form that the released training code gives its tensors (two_times.py), in
a folder as SANA-Sprint's. Guidance is none: the transformer embeds no guidance, and the paper samples without.
Sources: arXiv 2512.05150, inclusionAI/TwinFlow (a109a71).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import StepPlan, Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Family, Reference, WholeStock
from sprint_export.students.sana_sprint.family import FAMILY as SANA_SPRINT
from sprint_export.students.sana_sprint.family import SanaSprint
from sprint_export.students.twinflow_times import DTYPE, twinflow_times

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class TwinFlowSana(SanaSprint):
    """SANA-Sprint's stages, folds and recipes; TwinFlow's times."""

    marks = ("transformer/time_embed_2.",)
    time_dtype = DTYPE
    starts_from_noise = True
    guidance = 0.0
    presets = {}  # noqa: RUF012 the Protocol says that it is not written to
    hub_ids = {}  # noqa: RUF012 likewise
    schedules = {}  # noqa: RUF012 likewise
    completed_by = {}  # noqa: RUF012 likewise
    add_encoder, add_controlnet = Family.add_encoder, Family.add_controlnet  # which refuse

    @property
    def recipes(self) -> Path:
        return SANA_SPRINT.recipes

    def load(
        self, folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS
    ) -> Student:
        from sprint_export.students.sana_sprint.checkpoint import load

        return load(folder, source, revision, variant, self)

    def plan_times(self, steps: int) -> tuple[float, ...]:
        return twinflow_times(steps)

    def draw_reference(self, student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
        from sprint_export.students.twinflow_sana.reference import draw_reference

        return draw_reference(student, draws, progress)

    def open_stock(self, student: Student, folder: Path, has_networks: bool = True) -> Any:
        if not has_networks:
            return Family.open_stock(self, student, folder)  # which refuses: no other library knows the second time
        from sprint_export.students.twinflow_sana.stock_pipeline import open_folder

        return open_folder(student, folder)

    def draw_stock(self, student: Student, pipeline: Any, draws: Draws) -> npt.NDArray[np.float32]:
        from sprint_export.students.twinflow_sana.stock_pipeline import draw_stock

        return draw_stock(pipeline, draws.prompts, draws.noise, draws.times or self.plan_times(len(draws.noise)))

    def open_whole(self, student: Student, plan: StepPlan, device: str, dtype: str) -> WholeStock:
        from sprint_export.students.twinflow_sana.whole_stock import TwinFlowStock

        return TwinFlowStock(student, plan, device, dtype)

    def tiny(self, seed: int = 0) -> Student:
        from sprint_export.students.sana_sprint.presets import tiny

        return tiny(seed, family=self, guidance_embeds=False)


FAMILY = TwinFlowSana(name="twinflow_sana")
