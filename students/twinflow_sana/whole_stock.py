"""The stock classes of SANA-Sprint kept open, sampled at TwinFlow's times as the reference does (reference.py); to be timed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sprint_export.students.sana_sprint.whole_stock import SanaStock
from sprint_export.students.twinflow_sana.stock_pipeline import sample_stock


class TwinFlowStock(SanaStock):
    """SanaStock's networks."""

    def draw(self, prompts: Sequence[str], noise: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [B, H, W, 3]."""
        images = sample_stock(self.pipeline, prompts, self._place(noise), self.times)
        pictures: npt.NDArray[np.uint8] = np.rint(images * 255).astype(np.uint8)
        return pictures
