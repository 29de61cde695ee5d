"""DISTS (Ding et al. 2020, arXiv:2004.07728): texture by the means of features, structure by their correlations.

    d(x, y) = 1 - sum over taps k, channels c of   a_kc (2 m_x m_y + e) / (m_x^2 + m_y^2 + e)
                                                 + b_kc (2 s_xy + e) / (s_x^2 + s_y^2 + e)

m, s^2 and s_xy are mean, variance and covariance over positions of channel c of tap k; tap 0 is the picture, the others are
VGG16's with each pooling replaced by a blurred L2 norm. a and b sum to 1 together, and come with torchmetrics' wheel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting, UnmeasuredError
from sprint_export.validate.image_metrics.networks import TORCHMETRICS, find_library_fault, read_wheel_weights, run_pairs
from sprint_export.validate.image_metrics.weight_files import VGG_FILE, fill_module

if TYPE_CHECKING:
    import torch

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by channel
EPSILON = 1e-6  # in the quotients
LEAST_SIDE = 32  # pixels: what is left of it after five halvings


class StructureTexture(ImageMetric):
    """The distance, at the pictures' own size."""

    title = "DISTS (Ding et al. 2020) on VGG16"
    unit, better = "", "lower"
    needs = "torchvision's weights of VGG16"

    def find_fault(self, setting: Setting) -> str | None:
        return find_library_fault("torch", TORCHMETRICS) or VGG_FILE.find_fault(setting)

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        if min(comparison.exported.shape[1:3]) < LEAST_SIDE:
            raise UnmeasuredError(f"pictures of {comparison.exported.shape[1:3]}: its network takes {LEAST_SIDE} px or more")
        from sprint_export.validate.image_metrics.blurred_pool import make_blurred_vgg16

        network = make_blurred_vgg16()
        fill_module(network, VGG_FILE.read(setting), VGG_FILE.title)
        state = read_wheel_weights("functional", "image", "dists_models", "weights.pt")

        def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return measure_distance(network, (state["alpha"], state["beta"]), first, second)

        pair = (comparison.exported, comparison.reference)
        values = run_pairs(network, pair, setting.compute, self.title, distance)
        return [Scores(self.name, self.unit, values, f"{self.title}, exported vs PyTorch float32")]


def measure_distance(
    network: torch.nn.Module, shares: tuple[torch.Tensor, torch.Tensor], first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """The distance [B] of pictures float [B, 3, H, W] from 0 to 1; shares a and b [1, C, 1, 1] over the channels of all taps."""
    import torch

    mean, deviation = (torch.tensor(values, device=first.device).reshape(1, 3, 1, 1) for values in (MEAN, DEVIATION))
    ours, theirs = ([each, *network((each - mean) / deviation)] for each in (first, second))
    widths = [tap.shape[1] for tap in ours]
    total = sum(each.sum() for each in shares)
    texture, structure = ((each / total).flatten().to(first.device).split(widths) for each in shares)
    alike = torch.zeros(len(first), device=first.device)
    for a, b, x, y in zip(texture, structure, ours, theirs, strict=True):
        x_mean, y_mean = x.mean((2, 3)), y.mean((2, 3))
        covariance = (x * y).mean((2, 3)) - x_mean * y_mean
        x_variance, y_variance = (each.var((2, 3), correction=0) for each in (x, y))
        alike += (a * (2 * x_mean * y_mean + EPSILON) / (x_mean**2 + y_mean**2 + EPSILON)).sum(1)
        alike += (b * (2 * covariance + EPSILON) / (x_variance + y_variance + EPSILON)).sum(1)
    return 1 - alike


METRIC = StructureTexture(name="dists")
