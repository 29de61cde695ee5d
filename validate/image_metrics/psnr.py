"""PSNR of whole pictures, 10 log10(255^2 / mean squared difference), at most 100 dB."""

from __future__ import annotations

from sprint_export.psnr import psnr_images
from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting
from sprint_export.validate.rows import map_rows


class Psnr(ImageMetric):
    """Peak 255, over all pixels and channels of a picture."""

    title = "peak signal-to-noise ratio"
    unit, better, is_always = "dB", "higher", True

    @property
    def rows(self) -> tuple[str, ...]:
        return ("psnr_db",)

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        values = map_rows(psnr_images, comparison.exported, comparison.reference)
        return [Scores("psnr_db", self.unit, values, "exported vs PyTorch float32")]


METRIC = Psnr(name="psnr")
