"""VGG16 whose poolings are L2 norms under a small Hann window, stride 2: sqrt(h * x^2), as DISTS wants it."""

from __future__ import annotations

import torch
from torch import nn

from sprint_export.validate.image_metrics.taps import TappedLayers, make_vgg16

SMALLEST = 1e-12  # below the root


class BlurredPool(nn.Module):
    """[B, C, h, w] -> [B, C, ceil(h / 2), ceil(w / 2)]; the window has no weights of its own."""

    window: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([0.25, 0.5, 0.25])  # Hann's of five points without its zeros, sum 1
        self.register_buffer("window", torch.outer(row, row).expand(channels, 1, 3, 3).contiguous(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Each channel by itself."""
        found = nn.functional.conv2d(x.square(), self.window, stride=2, padding=1, groups=x.shape[1])
        return (found + SMALLEST).sqrt()


def make_blurred_vgg16() -> TappedLayers:
    """The network; its weights have VGG16's names."""
    return make_vgg16({4: BlurredPool(64), 9: BlurredPool(128), 16: BlurredPool(256), 23: BlurredPool(512)})
