"""The convolutions of AlexNet and VGG16 (Krizhevsky 2014, arXiv:1404.5997; Simonyan and Zisserman 2014, arXiv:1409.1556).

Perceptual distances read what some of their layers give. Layers are numbered as in torchvision's published weights
(`features.<number>.weight`); torchvision itself is not needed, whose wheels fit one build of torch only (docs/decisions/0048).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

POOL = 0  # in a table of widths: a pooling
ALEX_TAPS, ALEX_WIDTHS = (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)
VGG_TAPS, VGG_WIDTHS = (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)
VGG_TABLE = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512)


class TappedLayers(nn.Module):
    """Layers in a row, of which some outputs are given.

    Args:
        layers: in order.
        taps: which outputs, by number.
    """

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int]) -> None:
        super().__init__()
        self.features, self.taps = nn.Sequential(*layers), frozenset(taps)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Float [B, 3, H, W] -> outputs [B, C, h, w] of the taps."""
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                found.append(x)
        return found


def make_alexnet() -> TappedLayers:
    """Five convolutions, each with its ReLU tapped."""

    def convolve(inputs: int, outputs: int, side: int, padding: int, stride: int = 1) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, side, stride, padding), nn.ReLU()]

    return TappedLayers(
        [
            *(*convolve(3, 64, 11, 2, 4), nn.MaxPool2d(3, 2)),
            *(*convolve(64, 192, 5, 2), nn.MaxPool2d(3, 2)),
            *convolve(192, 384, 3, 1),
            *convolve(384, 256, 3, 1),
            *convolve(256, 256, 3, 1),
        ],
        ALEX_TAPS,
    )


def make_vgg16(pools: Mapping[int, nn.Module] | None = None) -> TappedLayers:
    """Thirteen convolutions; the last ReLU of each size is tapped. `pools`: by number, in place of the largest of 2 x 2."""
    layers: list[nn.Module] = []
    width = 3
    for outputs in VGG_TABLE:
        if outputs == POOL:
            layers.append((pools or {}).get(len(layers), nn.MaxPool2d(2, 2)))
        else:
            layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU()]
            width = outputs
    return TappedLayers(layers, VGG_TAPS)
