"""SANA-Sprint's transformer as Apple's Neural Engine wants it: channels on axis 1, rank 4, 1x1 convolutions, half precision.

The same function of the same inputs as `OneStepSana`, with its module names: a Linear [o, i] is a Conv2d [o, i, 1, 1].
Images stay [B, D, h, w] and text [B, D, 1, T]; heads are [B, H, d, N] by a reshape, and every product of an attention is
a b, a^T b or a b^T, which Core ML's matmul does without moving data. One transpose is left: that of prompt_embeds.

The engine has no float32, squares above 256 overflow its 65504, and numbers below 2^-14 may be flushed to zero. So nothing
is scaled by a guess: what has to be small enough is multiplied by r = 1 / sqrt(m), m its own largest magnitude, and algebra
takes r out again, whatever it is exactly:
    norm      c / sqrt(mean(c^2) + eps)  =  c r / sqrt(mean((c r)^2) + eps r^2),  where (c r)^2 <= m
    linear    out_n = (sum_j v_j k_j^T) q_n / (sum_j k_j . q_n) does not depend on the length of q_n: the division by q's
              norm, one number for all heads of a token, goes, and each head has an r of its own in its place
An eps of 1e-15 would become 0 or 6e-8; here the denominator is at least 2^-14 instead. The result differs from `OneStepSana`
only where a head's denominator is smaller than that although its q is not: where all keys of that direction are.
Not covered: sums over tokens, which overflow unless the weights of k carry 1/N (students/sana_sprint/folds.py sees to it).
Shapes: B batch, D width, h w = N tokens, H heads of d, T text rows, E their width.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from diffusers.models.transformers.sana_transformer import GLUMBConv
from torch import nn
from torch.nn import functional as F

from sprint_export.errors import InputError
from sprint_export.nouns.student import Component
from sprint_export.students.sana_sprint.controlnet import ControlledSana
from sprint_export.students.sana_sprint.transformer import OneStepSana, Patches
from sprint_export.weights import Handle, LazyHandle, check_fit

SMALLEST = 2.0**-14  # float16's smallest normal number


class ChannelNorm(nn.Module):
    """LayerNorm (centre) or RMSNorm over axis 1, right up to 30,000 in half precision; parameters [D], named as in those."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None

    def __init__(self, width: int, eps: float, centre: bool, weight: bool, bias: bool = False) -> None:
        super().__init__()
        self.root, self.centre = math.sqrt(eps), centre
        self.register_parameter("weight", nn.Parameter(torch.ones(width)) if weight else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(width)) if bias else None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, D, *, *] -> the same."""
        if self.centre:
            x = x - x.mean(1, keepdim=True)
        r = shrink(x.abs(), 1)
        x = x * r
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + (self.root * r).square())
        if self.weight is not None:
            x = x * self.weight[:, None, None]
        return x if self.bias is None else x + self.bias[:, None, None]


class Gain(nn.Module):
    """A factor of each channel: the weight of a norm whose division cancels, or the range of keys; named as the norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))


class Projections(nn.Module):
    """The four projections and two norms of an attention layer; `linear` attention needs only the weight of q's norm."""

    def __init__(self, width: int, inner: int, bias: bool, normalize: bool, linear: bool) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (pointwise(width, inner, bias) for _ in range(3))
        self.to_out = nn.ModuleList([pointwise(inner, width)])
        self.norm_q: nn.Module = nn.Identity()
        self.norm_k: nn.Module = Gain(inner) if linear else nn.Identity()
        if normalize:
            self.norm_q = Gain(inner) if linear else ChannelNorm(inner, 1e-5, centre=False, weight=True)
            self.norm_k = ChannelNorm(inner, 1e-5, centre=False, weight=True)


class Block(nn.Module):
    """One transformer block on images [B, D, h, w]."""

    def __init__(self, config: Mapping[str, Any], width: int, fold: bool) -> None:
        super().__init__()
        cross = config["num_cross_attention_heads"] * config["cross_attention_head_dim"]
        normalize = config["qk_norm"] is not None
        affine, eps = config["norm_elementwise_affine"], config["norm_eps"]
        self.heads, self.cross_heads = config["num_attention_heads"], config["num_cross_attention_heads"]
        self.norm1 = ChannelNorm(width, eps, centre=True, weight=False)
        self.attn1 = Projections(width, width, fold or config["attention_bias"], normalize, linear=True)
        self.attn2 = Projections(width, cross, True, normalize, linear=False)
        self.norm2 = ChannelNorm(width, eps, centre=True, weight=affine, bias=affine)
        self.ff = GLUMBConv(width, width, config["mlp_ratio"], norm_type=None, residual_connection=False)

    def forward(
        self, x: torch.Tensor, text: torch.Tensor, bias: torch.Tensor, rows: Sequence[torch.Tensor] | None
    ) -> torch.Tensor:
        """rows: None, or six of [1, D, 1, 1]: shift, scale and gate of the attention, then of the feed-forward."""
        y = self.attend_linear(modulate(self.norm1(x), rows, 0))
        x = x + (y if rows is None else rows[2] * y)
        x = x + self.attend_text(x, text, bias)
        y = cast(torch.Tensor, self.ff(modulate(self.norm2(x), rows, 3)))
        return x + (y if rows is None else rows[5] * y)

    def attend_linear(self, x: torch.Tensor) -> torch.Tensor:
        """Self-attention at a cost linear in N."""
        attn = self.attn1
        q, k = (split_and_scale(y, norm, self.heads) for y, norm in ((attn.to_q(x), attn.norm_q), (attn.to_k(x), attn.norm_k)))
        q, k, v = F.relu(q), F.relu(k), split_heads(attn.to_v(x), self.heads)
        q = q * shrink(q, 2)
        summary = v @ k.transpose(-1, -2)  # [B, H, d, d]
        total = k.sum(-1, keepdim=True)  # [B, H, d, 1]
        y = (summary @ q) / (total.transpose(-1, -2) @ q).clamp_min(SMALLEST)
        return cast(torch.Tensor, attn.to_out[0](join_heads(y, x)))

    def attend_text(self, x: torch.Tensor, text: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Cross-attention to the text rows; `bias` [B, 1, T, 1] hides the padded ones, 1/sqrt(d) is in the weights of q."""
        attn = self.attn2
        parts = attn.norm_q(attn.to_q(x)), attn.norm_k(attn.to_k(text)), attn.to_v(text)
        q, k, v = (split_heads(part, self.cross_heads) for part in parts)
        y = v @ torch.softmax(k.transpose(-1, -2) @ q + bias, dim=2)  # [B, H, d, T] @ [B, H, T, N]
        return cast(torch.Tensor, attn.to_out[0](join_heads(y, x)))


class Caption(nn.Module):
    """diffusers' PixArtAlphaTextProjection on [B, E, 1, T]."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.act_1, self.linear_2 = pointwise(features, width), nn.GELU("tanh"), pointwise(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, E, 1, T] -> [B, D, 1, T]."""
        return cast(torch.Tensor, self.linear_2(self.act_1(self.linear_1(x))))


class ChannelsFirstSana(nn.Module):
    """(latents, prompt_embeds, prompt_mask[, step]) -> denoised = latents - s v, as `OneStepSana`."""

    times: torch.Tensor
    positions: torch.Tensor
    modulation: torch.Tensor

    def __init__(self, config: Mapping[str, Any], steps: int) -> None:
        super().__init__()
        width = config["num_attention_heads"] * config["attention_head_dim"]
        self.patch, self.fold = config["patch_size"], steps == 1
        self.patch_embed = Patches(config["in_channels"], width, self.patch)
        self.has_positions = config["interpolation_scale"] is not None
        if self.has_positions:
            side = config["sample_size"] // self.patch
            self.register_buffer("positions", torch.empty(1, width, side, side))
        self.caption_projection = Caption(config["caption_channels"], width)
        self.caption_norm = ChannelNorm(width, 1e-5, centre=False, weight=True)
        self.transformer_blocks = nn.ModuleList(Block(config, width, self.fold) for _ in range(config["num_layers"]))
        self.norm_out = ChannelNorm(width, 1e-6, centre=True, weight=False)
        self.proj_out = pointwise(width, self.patch**2 * (config["out_channels"] or config["in_channels"]))
        self.register_buffer("times", torch.empty(steps))
        if not self.fold:  # rows last: a split then gives [1, D, 1, 1] each
            self.register_buffer("modulation", torch.empty(steps, width, 1, 6 * config["num_layers"] + 2))

    def forward(
        self, latents: torch.Tensor, prompt_embeds: torch.Tensor, prompt_mask: torch.Tensor, step: torch.Tensor | None = None
    ) -> torch.Tensor:
        """latents float [B, C, h, w], prompt_embeds [B, T, E], prompt_mask int64 [B, T], step int64 [1]."""
        return self.denoise(latents, prompt_embeds, prompt_mask, step)

    def denoise(
        self,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        prompt_mask: torch.Tensor,
        step: torch.Tensor | None,
        residuals: Sequence[torch.Tensor] = (),
    ) -> torch.Tensor:
        """As `forward`; residual i, [B, D, h, w], is added behind block i + 1."""
        dtype = self.proj_out.weight.dtype
        rows = None if step is None else self.modulation.index_select(0, step).split(1, dim=3)
        s = self.times if step is None else self.times.index_select(0, step)
        x: torch.Tensor = self.patch_embed.proj(latents.to(dtype))
        if self.has_positions:
            x = x + self.positions
        embeds = prompt_embeds.to(dtype).transpose(1, 2).unsqueeze(2)  # [B, E, 1, T]
        text = self.caption_norm(self.caption_projection(embeds))
        bias = ((1 - prompt_mask.to(dtype)) * -10000.0)[:, None, :, None]
        for i, block in enumerate(self.transformer_blocks):
            x = block(x, text, bias, None if rows is None else rows[6 * i : 6 * i + 6])
            if 0 < i <= len(residuals):
                x = x + residuals[i - 1].to(x.dtype)
        x = self.proj_out(modulate(self.norm_out(x), None if rows is None else rows[-2:], 0))
        if self.patch > 1:
            x = F.pixel_shuffle(x, self.patch)
        s = s[:, None, None, None]  # or coremltools multiplies it into proj_out's weight
        return latents - s * x.to(latents.dtype)


class ControlledChannelsFirst(ChannelsFirstSana):
    """As ChannelsFirstSana, with the residuals of a ControlNet as `ControlledSana` takes them."""

    def forward(  # type: ignore[override]  # an input more
        self,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        prompt_mask: torch.Tensor,
        control_residuals: torch.Tensor,
        step: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """As `ChannelsFirstSana`, with control_residuals float [B, L D, h, w]."""
        residuals = control_residuals.split(self.proj_out.in_channels, dim=1)
        return self.denoise(latents, prompt_embeds, prompt_mask, step, residuals)


def pointwise(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    """A Linear as a 1x1 convolution."""
    return nn.Conv2d(inputs, outputs, 1, bias=bias)


def shrink(magnitude: torch.Tensor, axis: int) -> torch.Tensor:
    """1 / sqrt(the largest of these values >= 0 along the axis)."""
    return torch.rsqrt(magnitude.amax(axis, keepdim=True).clamp_min(SMALLEST))


def modulate(x: torch.Tensor, rows: Sequence[torch.Tensor] | None, first: int) -> torch.Tensor:
    """x (1 + scale) + shift with rows (shift, scale) from the first; unchanged where they are folded away."""
    return x if rows is None else x * (1 + rows[first + 1]) + rows[first]


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, H d, h, w] -> [B, H, d, N]."""
    return x.reshape(x.shape[0], heads, x.shape[1] // heads, x.shape[2] * x.shape[3])


def split_and_scale(x: torch.Tensor, norm: nn.Module, heads: int) -> torch.Tensor:
    """[B, H d, h, w] -> [B, H, d, N], normalized or scaled."""
    if isinstance(norm, Gain):  # after the reshape, or coremltools multiplies it into the convolution's weight
        return split_heads(x, heads) * norm.weight.view(1, heads, -1, 1)
    return split_heads(norm(x), heads)


def join_heads(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[B, H, d, N] -> [B, H d, h, w]."""
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *like.shape[2:])


def to_channels_first(component: Component, config: Mapping[str, Any]) -> Component:
    """The specialized transformer in the Neural Engine's layout: same inputs, outputs and names, weights reshaped lazily.

    Args:
        component: what `specialize` made of the transformer.
        config: the transformer's, as diffusers writes it.

    Raises:
        InputError: the component is not the specialized transformer, or the config does not fit its weights.
    """
    old = component.module
    if not isinstance(old, OneStepSana):
        raise InputError(
            f"component {component.role!r} is a {type(old).__name__}, expected the specialized transformer (OneStepSana); "
            "specialize the student first, and arrange its transformer once"
        )
    with torch.device("meta"):
        arranged = ControlledChannelsFirst if isinstance(old, ControlledSana) else ChannelsFirstSana
        module = arranged(config, len(old.times)).eval()
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    weights = {name: _rearrange(name, handle, wanted.get(name), module.patch) for name, handle in component.weights.items()}
    check_fit(module, weights, f"{component.role} channels first")
    note = "layout: channels first, every Linear a 1x1 convolution"
    if module.patch > 1:
        note += f"; proj_out rows in the order of a pixel shuffle by {module.patch}"
    return dataclasses.replace(component, module=module, weights=weights, notes=(*component.notes, note))


def _rearrange(name: str, handle: Handle, shape: tuple[int, ...] | None, patch: int) -> Handle:
    """The handle with its values where the channels-first module has them; unchanged where no rule applies."""
    if shape is None or math.prod(shape) != math.prod(handle.shape):
        return handle  # `check_fit` names it
    if name in ("positions", "modulation"):  # [1, N, D] -> [1, D, h, w] and [steps, rows, D] -> [steps, D, 1, rows]
        return LazyHandle(shape, handle.dtype, lambda: handle.load().transpose(1, 2).reshape(shape))
    if name.startswith("proj_out.") and patch > 1:  # rows (y, x, c) -> (c, y, x)
        return LazyHandle(shape, handle.dtype, lambda: handle.load().unflatten(0, (patch**2, -1)).transpose(0, 1).reshape(shape))
    if shape == handle.shape:
        return handle
    return LazyHandle(shape, handle.dtype, lambda: handle.load().reshape(shape))
