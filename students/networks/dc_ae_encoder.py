"""DC-AE's encoder as one graph: a picture in [-1, 1] in, unit-variance latents out.

    latents = encoder(image) * scaling_factor          nothing is drawn at random: the encoder is deterministic

The blocks, what is folded of them and the range of linear attention are the decoder's (dc_ae_blocks.py, dc_ae.py). Shortcuts
that take means over groups of channels stay as they are: folded into the convolutions beside them they would be rounded with
their weights. Covered: every block of diffusers' encoder, both ways to downsample.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from diffusers import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_dc import DCDownBlock2d, Encoder
from torch import nn
from torch.nn import functional as F

from sprint_export.students.networks.dc_ae import fold_range
from sprint_export.students.networks.dc_ae_blocks import arrange, fold_weights
from sprint_export.weights import Handle, widen_dtype


class Downsample(nn.Module):
    """[B, C, 2h, 2w] -> [B, D, h, w], with a shortcut of means over groups of channels where there is one."""

    def __init__(self, stock: DCDownBlock2d) -> None:
        super().__init__()
        self.conv, self.unshuffles = stock.conv, stock.downsample
        self.group = stock.group_size if stock.shortcut else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, 2h, 2w] -> [B, D, h, w]."""
        y = cast(torch.Tensor, self.conv(x))
        if self.unshuffles:
            y = F.pixel_unshuffle(y, 2)
        return y + average_groups(F.pixel_unshuffle(x, 2), self.group) if self.group else y


class ChannelsFirstEncoder(nn.Module):
    """diffusers' Encoder of these blocks; module names are its own, but for `attn.to_qkv`."""

    def __init__(self, stock: Encoder) -> None:
        super().__init__()
        self.conv_in = _arrange(stock.conv_in)
        self.down_blocks = nn.ModuleList(nn.Sequential(*map(_arrange, level)) for level in stock.down_blocks)
        self.conv_out = stock.conv_out
        self.group = stock.out_shortcut_average_group_size if stock.out_shortcut else 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Image [B, 3, H, W] -> latents [B, C, h, w]."""
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
        y = cast(torch.Tensor, self.conv_out(x))
        return y + average_groups(x, self.group) if self.group else y


class LatentEncoder(nn.Module):
    """image float32 [B, 3, H, W] -> latents float32 [B, C, h, w]."""

    def __init__(self, autoencoder: AutoencoderDC) -> None:
        super().__init__()
        self.encoder = ChannelsFirstEncoder(autoencoder.encoder)
        self.factor = float(autoencoder.config.scaling_factor)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Encode in the weights' dtype; the scaling is done in float32."""
        latents: torch.Tensor = self.encoder(image.to(self.encoder.conv_out.weight.dtype))
        return latents.to(widen_dtype(latents.dtype)) * self.factor


def fold_encoder(
    weights: Mapping[str, Handle], encoder: LatentEncoder, image_shape: tuple[int, ...]
) -> tuple[dict[str, Handle], tuple[str, ...]]:
    """The weights of the specialized encoder from the stock ones, and a note that says what was folded."""
    named = {name: handle for name, handle in weights.items() if name.startswith("encoder.")}
    ranged = fold_range(named, encoder, image_shape)
    notes = (f"range: {len(ranged) // 4} linear attentions sum means",) if ranged else ()
    return fold_weights(encoder, named | ranged), notes


def average_groups(x: torch.Tensor, size: int) -> torch.Tensor:
    """[B, C, h, w] -> [B, C / size, h, w]: the mean of each `size` channels that follow one another."""
    return cast(torch.Tensor, x.unflatten(1, (-1, size)).mean(2))


def _arrange(block: nn.Module) -> nn.Module:
    return Downsample(block) if isinstance(block, DCDownBlock2d) else arrange(block)
