"""DC-AE's decoder as one graph: unit-variance latents in, a picture in [-1, 1] out.

    image = decoder(latents / scaling_factor)

The division stays one Mul: the decoder's first convolution has a shortcut around it, so folding it would have to scale both.
The encoder (dc_ae_encoder.py) is a network of its own.

Linear attention sums over all N positions of a picture, up to 16,384, which half precision cannot hold. With q, k and v all
divided by r = 2^ceil(log2(N) / 2) every sum becomes a mean, and the result is what it was, divided by r:
    (q/r . sum (k/r) (v/r)) / (q/r . sum k/r) = out / r          to_out r   undoes it
r is a power of two, so the fold is exact; it fires for every attention of decoder and encoder. Their qkv projections have no
bias and what lies between them and the sums (depthwise and grouped convolutions without bias, ReLU) passes the factor on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderDC

from sprint_export.students.folding import fold_gate
from sprint_export.students.networks.dc_ae_blocks import ChannelsFirstDecoder, MultiscaleAttention, fold_weights
from sprint_export.weights import Handle


def make_autoencoder(config: Mapping[str, Any]) -> AutoencoderDC:
    """The stock autoencoder on `meta`."""
    with torch.device("meta"):
        autoencoder = AutoencoderDC.from_config(dict(config))
    return autoencoder.eval()


def fold_decoder(
    weights: Mapping[str, Handle], decoder: LatentDecoder, latent_shape: tuple[int, ...]
) -> tuple[dict[str, Handle], tuple[str, ...]]:
    """The weights of the specialized decoder from the stock ones, and a note per rule that says what it did."""
    named = {name: handle for name, handle in weights.items() if name.startswith("decoder.")}
    ranged = fold_range(named, decoder, latent_shape)
    notes: tuple[str, ...] = (f"range: {len(ranged) // 4} linear attentions sum means",) if ranged else ()
    notes += ("layout: norms over channels in place, upsampling folded into 2x2 taps",)
    return fold_weights(decoder, named | ranged), notes


def fold_range(weights: Mapping[str, Handle], network: torch.nn.Module, input_shape: tuple[int, ...]) -> dict[str, Handle]:
    """The projections around each linear attention, scaled so that no sum over N exceeds a mean."""
    folded: dict[str, Handle] = {}
    for name, positions in count_positions(network, input_shape).items():
        r = 2.0 ** math.ceil(math.log2(positions) / 2)
        for layer, factor in (("to_q", 1 / r), ("to_k", 1 / r), ("to_v", 1 / r), ("to_out", r)):
            handle = weights[f"{name}.{layer}.weight"]
            folded |= fold_gate(weights, f"{name}.{layer}", torch.full(handle.shape[:1], factor, dtype=torch.float64))
    return folded


def count_positions(network: torch.nn.Module, input_shape: tuple[int, ...]) -> dict[str, int]:
    """N of every linear attention, by module name: found by sending nothing of that shape through the meta module."""
    found: dict[str, int] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, arguments, name=name: found.update({name: arguments[0].shape[-2] * arguments[0].shape[-1]})
        )
        for name, module in network.named_modules()
        if isinstance(module, MultiscaleAttention)
    ]
    try:
        with torch.no_grad():
            network(torch.empty(1, *input_shape, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return found


class LatentDecoder(torch.nn.Module):
    """latents float32 [B, C, h, w] -> image float32 [B, 3, H, W], not clipped."""

    def __init__(self, autoencoder: AutoencoderDC) -> None:
        super().__init__()
        self.decoder = ChannelsFirstDecoder(autoencoder.decoder)
        self.factor = 1.0 / float(autoencoder.config.scaling_factor)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode; the scaling is done in float32, the rest in the weights' dtype."""
        dtype = self.decoder.conv_in.weight.dtype
        image: torch.Tensor = self.decoder((latents * self.factor).to(dtype))
        return image.float()
