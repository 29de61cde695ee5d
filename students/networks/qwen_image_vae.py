"""AutoencoderKLQwenImage's decoder for one frame: its 3-D convolutions are 2-D, and latents come at unit variance.

    conv3d, causal, of one frame    two frames of zeros before it, so the last of its taps in time alone is multiplied
    time_conv                       skipped for the first frame, as in the stock decoder: it doubles frames from the second on
    image = decoder(post_quant_conv(std latents + mean))    a 1x1 layer without border: W diag(std), b + W mean
    norm                            x gamma sqrt(C) / max(|x|, 1e-12) over channels, in at least float32
Upsampling is that of networks/dc_ae_blocks.py: 2x2 convolutions of the small picture with summed taps, 4/9 of the products.
Covered: every block of the stock decoder. The encoder is never materialized. Names are diffusers'.
Source: diffusers' autoencoder_kl_qwenimage.py, in float64 in tests/students/networks/test_qwen_image_vae.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import (
    QwenImageAttentionBlock,
    QwenImageCausalConv3d,
    QwenImageResidualBlock,
    QwenImageRMS_norm,
    QwenImageUpBlock,
)
from torch import nn

from sprint_export.students.folding import fold_scale_shift
from sprint_export.students.networks.dc_ae_blocks import Upsample, fold_weights
from sprint_export.weights import Handle, LazyHandle, widen_dtype

SMALLEST = 1e-24  # the square of F.normalize's smallest norm
UNREAD = ("encoder.", "quant_conv.")


def make_qwen_autoencoder(config: Mapping[str, Any]) -> AutoencoderKLQwenImage:
    """The stock autoencoder on `meta`."""
    listed = {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}  # it adds to its lists
    with torch.device("meta"):
        autoencoder = AutoencoderKLQwenImage.from_config(listed)
    return autoencoder.eval()


class PixelNorm(nn.Module):
    """Stands in for QwenImageRMS_norm; `gamma` [C] has its sqrt(C)."""

    def __init__(self, stock: QwenImageRMS_norm) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(stock.gamma.shape[0], device="meta"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        wide = x.to(widen_dtype(x.dtype))
        scale = torch.rsqrt(wide.square().sum(1, keepdim=True).clamp(min=SMALLEST))
        return (wide * scale * self.gamma[:, None, None]).to(x.dtype)


def _flatten(stock: QwenImageCausalConv3d) -> nn.Conv2d:
    """The 2-D convolution of one frame."""
    _, left, *_ = padding = stock._padding
    assert padding[0] == left == padding[2] == padding[3]
    return nn.Conv2d(stock.in_channels, stock.out_channels, stock.kernel_size[1:], padding=int(left), device="meta")


class PixelResidual(nn.Module):
    """conv2(f(norm2(conv1(f(norm1(x)))))) + shortcut(x)."""

    def __init__(self, stock: QwenImageResidualBlock) -> None:
        super().__init__()
        self.norm1, self.norm2, self.nonlinearity = PixelNorm(stock.norm1), PixelNorm(stock.norm2), stock.nonlinearity
        self.conv1, self.conv2 = _flatten(stock.conv1), _flatten(stock.conv2)
        shortcut = stock.conv_shortcut
        self.conv_shortcut = _flatten(shortcut) if isinstance(shortcut, QwenImageCausalConv3d) else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, D, h, w]."""
        y = self.conv1(self.nonlinearity(self.norm1(x)))
        y = self.conv2(self.nonlinearity(self.norm2(y)))
        result: torch.Tensor = y + self.conv_shortcut(x)
        return result


class PixelAttention(nn.Module):
    """One head over all positions, with a residual."""

    def __init__(self, stock: QwenImageAttentionBlock) -> None:
        super().__init__()
        self.norm, self.to_qkv, self.proj = PixelNorm(stock.norm), stock.to_qkv, stock.proj
        self.scale = stock.dim**-0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        q, k, v = self.to_qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # [B, C, N]
        shares = torch.softmax((q * self.scale).transpose(1, 2) @ k, dim=-1)
        y = (v @ shares.transpose(1, 2)).reshape(x.shape)
        result: torch.Tensor = self.proj(y) + x
        return result


def _arrange_level(stock: QwenImageUpBlock) -> nn.ModuleDict:
    parts: dict[str, nn.Module] = {"resnets": nn.ModuleList(PixelResidual(block) for block in stock.resnets)}
    if stock.upsamplers is not None:
        conv = stock.upsamplers[0].resample[1]
        doubling: Any = SimpleNamespace(conv=conv, interpolate=True, interpolation_mode="nearest", shortcut=False, repeats=0)
        parts["upsamplers"] = nn.ModuleList([Upsample(doubling)])
    return nn.ModuleDict(parts)


class FrameDecoder(nn.Module):
    """The stock decoder's blocks for one frame: [B, C, h, w] -> [B, 3, H, W]."""

    def __init__(self, stock: Any) -> None:
        super().__init__()
        self.conv_in, self.conv_out = _flatten(stock.conv_in), _flatten(stock.conv_out)
        middle = stock.mid_block
        self.mid_block = nn.ModuleDict(
            {
                "resnets": nn.ModuleList(PixelResidual(block) for block in middle.resnets),
                "attentions": nn.ModuleList(PixelAttention(block) for block in middle.attentions),
            }
        )
        self.up_blocks = nn.ModuleList(_arrange_level(level) for level in stock.up_blocks)
        self.norm_out, self.nonlinearity = PixelNorm(stock.norm_out), stock.nonlinearity

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Decode."""
        x = self.conv_in(x)
        middle: Any = self.mid_block
        first, *rest = middle["resnets"]
        x = first(x)
        for attention, block in zip(middle["attentions"], rest, strict=True):
            x = block(attention(x))
        levels: Any = self.up_blocks
        for block in (block for level in levels for part in level.values() for block in part):
            x = block(x)
        image: torch.Tensor = self.conv_out(self.nonlinearity(self.norm_out(x)))
        return image


class LatentPainter(nn.Module):
    """latents float32 [B, C, h, w] of unit variance -> image float32 [B, 3, H, W], not clipped."""

    def __init__(self, autoencoder: AutoencoderKLQwenImage) -> None:
        super().__init__()
        self.post_quant_conv = _flatten(autoencoder.post_quant_conv)
        self.decoder = FrameDecoder(autoencoder.decoder)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """In the weights' dtype."""
        image: torch.Tensor = self.decoder(self.post_quant_conv(latents.to(self.post_quant_conv.weight.dtype)))
        return image.float()


def fold_painter(weights: Mapping[str, Handle], painter: LatentPainter, config: Mapping[str, Any]) -> dict[str, Handle]:
    """The weights of a LatentPainter from the stock autoencoder's.

    Args:
        weights: by the stock names.
        painter: on `meta`.
        config: the stock autoencoder's, for the mean and deviation of each latent channel.
    """
    named: dict[str, Handle] = {}
    for name, handle in weights.items():
        if not name.startswith(UNREAD) and ".time_conv." not in name:
            named[name.replace(".resample.1.", ".conv.")] = _take_frame(name, handle)
    mean, deviation = (torch.tensor(config[f"latents_{kind}"], dtype=torch.float64) for kind in ("mean", "std"))
    named |= fold_scale_shift(named, "post_quant_conv", deviation - 1, mean)
    return fold_weights(painter, named)


def _take_frame(name: str, handle: Handle) -> Handle:
    """Of a convolution the tap that meets the only frame; of a gain its values times sqrt(C)."""
    shape = handle.shape
    if len(shape) == 5:
        return LazyHandle((*shape[:2], *shape[3:]), handle.dtype, lambda: handle.load()[:, :, -1].contiguous())
    if not name.endswith(".gamma"):
        return handle
    dtype = widen_dtype(handle.dtype)
    return LazyHandle(shape[:1], dtype, lambda: handle.load().to(dtype).flatten() * math.sqrt(shape[0]))
