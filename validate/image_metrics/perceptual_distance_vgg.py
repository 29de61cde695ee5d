"""LPIPS on VGG16: heavier than on AlexNet, what papers on training report; not comparable with it."""

from __future__ import annotations

from sprint_export.validate.image_metrics.perceptual_distance import PerceptualDistance

METRIC = PerceptualDistance(name="lpips_vgg", backbone="vgg")
