"""DC-AE's decoder as one graph: unit-variance latents in, a picture in [-1, 1] out.

    image = decoder(latents / scaling_factor)

The division stays one Mul: the decoder's first convolution has a shortcut around it, so folding it would have to scale both.
The encoder is never materialized.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderDC


def make_autoencoder(config: Mapping[str, Any]) -> AutoencoderDC:
    """The stock autoencoder on `meta`."""
    with torch.device("meta"):
        autoencoder = AutoencoderDC.from_config(dict(config))
    return autoencoder.eval()


class LatentDecoder(torch.nn.Module):
    """latents float32 [B, C, h, w] -> image float32 [B, 3, H, W], not clipped."""

    def __init__(self, autoencoder: AutoencoderDC) -> None:
        super().__init__()
        self.decoder = autoencoder.decoder
        self.factor = 1.0 / float(autoencoder.config.scaling_factor)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode; the scaling is done in float32, the rest in the weights' dtype."""
        dtype = self.decoder.conv_in.weight.dtype
        image: torch.Tensor = self.decoder((latents * self.factor).to(dtype))
        return image.float()
