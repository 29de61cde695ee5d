"""SSIM of whole pictures (Wang et al. 2004, doi:10.1109/TIP.2003.819861), as scikit-image computes it."""

from __future__ import annotations

from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting, UnmeasuredError
from sprint_export.validate.images import ssim_images
from sprint_export.validate.rows import map_rows

WINDOW = 7  # pixels: scikit-image's own


class Ssim(ImageMetric):
    """A uniform window of 7 x 7, mean over positions and channels."""

    title = "structural similarity (Wang et al. 2004), 7 x 7 window"
    unit, better, is_always = "", "higher", True

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        if min(comparison.exported.shape[1:3]) < WINDOW:
            raise UnmeasuredError(f"pictures of {comparison.exported.shape[1:3]} are smaller than its window, {WINDOW} px")
        values = map_rows(ssim_images, comparison.exported, comparison.reference)
        return [Scores(self.name, self.unit, values, "exported vs PyTorch float32")]


METRIC = Ssim(name="ssim")
