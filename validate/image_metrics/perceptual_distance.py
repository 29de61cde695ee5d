"""LPIPS (Zhang et al. 2018, arXiv:1801.03924): how far apart two pictures are to a network that sees as people do.

    d(x, y) = sum over taps l of  mean over positions of  w_l . (f_l(x)/|f_l(x)| - f_l(y)/|f_l(y)|)^2

f_l(x) is what tap l of AlexNet or VGG16 gives at a position, a vector over channels; w_l >= 0 was fitted to people's judgments
(version 0.1) and comes with torchmetrics' wheel. The network's own weights are torchvision's (weight_files.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sprint_export.validate.image_metrics.metric import Comparison, ImageMetric, Scores, Setting, UnmeasuredError
from sprint_export.validate.image_metrics.networks import TORCHMETRICS, find_library_fault, read_wheel_weights, run_pairs
from sprint_export.validate.image_metrics.weight_files import fill_module

if TYPE_CHECKING:
    import torch

    from sprint_export.validate.image_metrics.taps import TappedLayers
    from sprint_export.validate.image_metrics.weight_files import WeightFile

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pictures from -1 to 1, by channel: the paper's code
SMALLEST = 1e-8  # added to a squared length: a vector of zeros has no direction; torchmetrics' own
LEAST_SIDE = 31  # pixels: below it AlexNet's last layers have no position left


class PerceptualDistance(ImageMetric):
    """The distance on one network.

    Args:
        name: of the metric.
        backbone: alex or vgg.
    """

    unit, better = "", "lower"

    def __init__(self, name: str, backbone: str = "alex") -> None:
        super().__init__(name)
        self.backbone = backbone
        network = {"alex": "AlexNet", "vgg": "VGG16"}[backbone]
        self.title = f"LPIPS 0.1 on {network} (Zhang et al. 2018)"
        self.needs = f"torchvision's weights of {network}"

    def find_fault(self, setting: Setting) -> str | None:
        return find_library_fault("torch", TORCHMETRICS) or self._file.find_fault(setting)

    @property
    def _file(self) -> WeightFile:
        from sprint_export.validate.image_metrics.weight_files import ALEX_FILE, VGG_FILE

        return {"alex": ALEX_FILE, "vgg": VGG_FILE}[self.backbone]

    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        if min(comparison.exported.shape[1:3]) < LEAST_SIDE:
            raise UnmeasuredError(f"pictures of {comparison.exported.shape[1:3]}: its network takes {LEAST_SIDE} px or more")
        network, lines = self._open(setting)

        def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
            return measure_distance(network, lines, first, second)

        pair = (comparison.exported, comparison.reference)
        values = run_pairs(network, pair, setting.compute, self.title, distance)
        return [Scores(self.name, self.unit, values, f"{self.title}, exported vs PyTorch float32")]

    def _open(self, setting: Setting) -> tuple[TappedLayers, list[torch.Tensor]]:
        """The network, and w_l [1, C, 1, 1] of each tap."""
        from sprint_export.validate.image_metrics import taps

        network = {"alex": taps.make_alexnet, "vgg": taps.make_vgg16}[self.backbone]()
        fill_module(network, self._file.read(setting), self._file.title)
        state = read_wheel_weights("functional", "image", "lpips_models", f"{self.backbone}.pth")
        return network, [state[name] for name in sorted(state)]


def measure_distance(
    network: torch.nn.Module, lines: list[torch.Tensor], first: torch.Tensor, second: torch.Tensor
) -> torch.Tensor:
    """The distance [B] of pictures float [B, 3, H, W] from 0 to 1, lines w_l being [1, C, 1, 1] in the order of the taps."""
    import torch

    shift, scale = (torch.tensor(values, device=first.device).reshape(1, 3, 1, 1) for values in (SHIFT, SCALE))
    total = torch.zeros(len(first), device=first.device)
    ours, theirs = (network((2 * pictures - 1 - shift) / scale) for pictures in (first, second))
    for line, a, b in zip(lines, ours, theirs, strict=True):
        difference = (_scale_to_one(a) - _scale_to_one(b)).square()
        total += (difference * line.to(a.device)).sum(1).mean((1, 2))
    return total


def _scale_to_one(values: torch.Tensor) -> torch.Tensor:
    """Vectors over channels of [B, C, h, w], each of length 1."""
    return values / (values.square().sum(1, keepdim=True) + SMALLEST).sqrt()


METRIC = PerceptualDistance(name="lpips")
