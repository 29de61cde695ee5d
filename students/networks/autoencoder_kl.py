"""AutoencoderKL's decoder as one graph: unit-variance latents in, a picture in [-1, 1] out. The encoder is never materialized.

    image = decoder([post_quant_conv](latents / scaling_factor + shift_factor))
Factor and shift stay a Mul and an Add: the first convolution pads with zeros, which a folded shift would have to meet at the
border. The middle's attention is written out (the stock one leaves its form to the installed torch), with its two 1x1 layers as
they are. Upsampling stays a doubled picture and its convolution: the 2x2 convolutions of networks/dc_ae_blocks.py have 4/9 of the
products, but TensorRT then computes the group norm behind them in three passes of float32 (docs/decisions/0034).
Covered: UpDecoderBlock2D, group norm, an attention in the middle or none. Names are diffusers'.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import Attention
from torch import nn

from sprint_export.weights import Handle


def make_autoencoder_kl(config: Mapping[str, Any]) -> AutoencoderKL:
    """The stock autoencoder on `meta`."""
    with torch.device("meta"):
        autoencoder = AutoencoderKL.from_config(dict(config))
    return autoencoder.eval()


class PixelAttention(nn.Module):
    """Stands in for diffusers' Attention over all positions of a picture, one head, with a residual."""

    def __init__(self, stock: Attention) -> None:
        super().__init__()
        assert stock.heads == 1 and stock.residual_connection and stock.rescale_output_factor == 1
        self.group_norm, self.to_out = stock.group_norm, stock.to_out
        self.to_q, self.to_k, self.to_v, self.scale = stock.to_q, stock.to_k, stock.to_v, stock.scale

    def forward(self, x: torch.Tensor, temb: torch.Tensor | None = None) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        y = self.group_norm(x.flatten(2)).transpose(1, 2)  # [B, N, C]
        scores = (self.to_q(y) * self.scale) @ self.to_k(y).transpose(1, 2)
        y = self.to_out[0](torch.softmax(scores, dim=-1) @ self.to_v(y))
        result: torch.Tensor = x + y.transpose(1, 2).reshape(x.shape)
        return result


class PixelDecoder(nn.Module):
    """latents float32 [B, C, h, w] -> image float32 [B, 3, H, W], not clipped."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        config = autoencoder.config
        self.decoder, self.post_quant_conv = copy.deepcopy(autoencoder.decoder), autoencoder.post_quant_conv
        self.factor, self.shift = 1.0 / float(config.scaling_factor), float(config.shift_factor or 0.0)
        middle: Any = self.decoder.mid_block
        if config.mid_block_add_attention:
            middle.attentions[0] = PixelAttention(middle.attentions[0])

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode; scaling and shift in float32, the rest in the weights' dtype."""
        return self.paint(latents).float()

    def paint(self, latents: torch.Tensor) -> torch.Tensor:
        """The image in the weights' dtype."""
        x = (latents * self.factor + self.shift).to(self.decoder.conv_in.weight.dtype)
        image: torch.Tensor = self.decoder(x if self.post_quant_conv is None else self.post_quant_conv(x))
        return image


def list_decoder_weights(weights: Mapping[str, Handle]) -> dict[str, Handle]:
    """Those of a PixelDecoder among the stock autoencoder's."""
    return {name: handle for name, handle in weights.items() if name.startswith(("decoder.", "post_quant_conv."))}
