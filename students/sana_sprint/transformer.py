"""SANA-Sprint's transformer with its time path gone: what remains to be computed once the steps are fixed.

Module names are diffusers' (`transformer_blocks.0.attn1.to_q`), so weights, scales and recipes speak one language.
One step: norms have no scale, shift or gate left (folded into the neighbours by students/sana_sprint/family.py).
More steps: a `modulation` table [steps, 6 layers + 2, D] is gathered by the step index.

Linear attention, per head with q, k >= 0 (ReLU), in float32 as the paper trains it:
    out_n = q_n (sum_m k_m v_m^T) / (q_n . sum_m k_m + 1e-15)
Shapes: B batch, N = h w tokens, D width, T text rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.sana_transformer import GLUMBConv, PixArtAlphaTextProjection
from torch import nn
from torch.nn import functional as F

from sprint_export.weights import widen_dtype


class Gain(nn.Module):
    """Stands where a student has no norm of the keys: x weight, weight [D], which holds their range (folds.py)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, N, D] -> the same."""
        return x * self.weight


class Projections(nn.Module):
    """The four projections and two norms of an attention layer, named as in diffusers; `linear` attention scales its keys."""

    def __init__(self, width: int, inner: int, bias: bool, normalize: bool, linear: bool) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, inner, bias=bias) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(inner, width)])
        self.norm_q = RMSNorm(inner, eps=1e-5) if normalize else nn.Identity()
        unscaled = Gain(inner) if linear else nn.Identity()
        self.norm_k = RMSNorm(inner, eps=1e-5) if normalize else unscaled


class Block(nn.Module):
    """One transformer block on tokens [B, N, D]."""

    def __init__(self, config: Mapping[str, Any], width: int, fold: bool) -> None:
        super().__init__()
        cross = config["num_cross_attention_heads"] * config["cross_attention_head_dim"]
        normalize = config.get("qk_norm") is not None  # a ControlNet has no such key
        affine, eps = config["norm_elementwise_affine"], config["norm_eps"]
        self.heads, self.cross_heads = config["num_attention_heads"], config["num_cross_attention_heads"]
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=eps)
        self.attn1 = Projections(width, width, fold or config["attention_bias"], normalize, linear=True)
        self.attn2 = Projections(width, cross, True, normalize, linear=False)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=affine, eps=eps)
        self.ff = GLUMBConv(width, width, config["mlp_ratio"], norm_type=None, residual_connection=False)

    def forward(
        self, x: torch.Tensor, text: torch.Tensor, bias: torch.Tensor, height: int, table: torch.Tensor | None
    ) -> torch.Tensor:
        """table: None, or [6, D]: shift, scale and gate of the attention, then of the feed-forward."""
        y = self.attend_linear(modulate(self.norm1(x), table, 0))
        x = x + (y if table is None else table[2] * y)
        x = x + self.attend_text(x, text, bias)
        y = modulate(self.norm2(x), table, 3)
        image = y.unflatten(1, (height, -1)).permute(0, 3, 1, 2)
        y = self.ff(image).flatten(2).transpose(1, 2)
        x = x + (y if table is None else table[5] * y)
        return x

    def attend_linear(self, x: torch.Tensor) -> torch.Tensor:
        """Self-attention at a cost linear in N."""
        attn = self.attn1
        q, k, v = attn.norm_q(attn.to_q(x)), attn.norm_k(attn.to_k(x)), attn.to_v(x)
        q, k, v = (split_heads(part, self.heads) for part in (q, k, v))
        q, k, v = (part.to(widen_dtype(part.dtype)) for part in (q, k, v))  # what follows sums over all tokens
        q, k = F.relu(q), F.relu(k)
        summary = k.transpose(-1, -2) @ v  # [B, heads, d, d]
        total = k.sum(2, keepdim=True)  # [B, heads, 1, d]
        y = (q @ summary) / ((q * total).sum(-1, keepdim=True) + 1e-15)
        y = y.transpose(1, 2).flatten(2).to(x.dtype)
        y = cast(torch.Tensor, attn.to_out[0](y))
        return y.clip(-65504, 65504) if x.dtype == torch.float16 else y

    def attend_text(self, x: torch.Tensor, text: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Cross-attention to the text rows; `bias` [B, 1, 1, T] hides the padded ones, 1/sqrt(d) is in the weights of q."""
        attn = self.attn2
        q, k, v = attn.norm_q(attn.to_q(x)), attn.norm_k(attn.to_k(text)), attn.to_v(text)
        q, k, v = (split_heads(part, self.cross_heads) for part in (q, k, v))
        y = torch.softmax(q @ k.transpose(-1, -2) + bias, dim=-1) @ v
        result: torch.Tensor = attn.to_out[0](y.transpose(1, 2).flatten(2))
        return result


# What a module of a class computes once, in the words of the rules that rewrite it (`serves` in export/to_onnx/rules/).
FORMS: dict[type[nn.Module], tuple[str, ...]] = {
    Block: ("linear attention", "masked attention", "gated convolution", "tokens as a picture"),
    RMSNorm: ("RMS norm",),
}


class Patches(nn.Module):
    """The patch projection, named as in diffusers."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)


class SanaTokens(nn.Module):
    """What the transformer and its ControlNet share: latents and text in, blocks at fixed times."""

    times: torch.Tensor
    positions: torch.Tensor
    modulation: torch.Tensor

    def __init__(self, config: Mapping[str, Any], steps: int, channels: int) -> None:
        super().__init__()
        width = config["num_attention_heads"] * config["attention_head_dim"]
        self.patch, self.fold = config["patch_size"], steps == 1
        self.patch_embed = Patches(channels, width, self.patch)
        self.has_positions = config["interpolation_scale"] is not None
        if self.has_positions:
            self.register_buffer("positions", torch.empty(1, (config["sample_size"] // self.patch) ** 2, width))
        self.caption_projection = PixArtAlphaTextProjection(config["caption_channels"], width)
        self.caption_norm = RMSNorm(width, eps=1e-5)
        self.transformer_blocks = nn.ModuleList(Block(config, width, self.fold) for _ in range(config["num_layers"]))

    def embed(self, latents: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        """[B, C, h p, w p] -> tokens [B, N, D], and h and w."""
        x: torch.Tensor = self.patch_embed.proj(latents.to(self.patch_embed.proj.weight.dtype))
        height, width = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)
        return x + self.positions if self.has_positions else x, height, width

    def read_text(self, prompt_embeds: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of text [B, T, D], and a bias [B, 1, 1, T] that hides the padded ones."""
        dtype = self.patch_embed.proj.weight.dtype
        text = self.caption_norm(self.caption_projection(prompt_embeds.to(dtype)))
        return text, ((1 - prompt_mask.to(dtype)) * -10000.0)[:, None, None, :]

    def find_rows(self, step: torch.Tensor | None) -> torch.Tensor | None:
        """The step's rows of modulation, or None where they are folded away."""
        return None if step is None else self.modulation.index_select(0, step)[0]


class OneStepSana(SanaTokens):
    """(latents, prompt_embeds, prompt_mask[, step]) -> denoised = latents - s v, float32 at both ends."""

    def __init__(self, config: Mapping[str, Any], steps: int) -> None:
        super().__init__(config, steps, config["in_channels"])
        width = config["num_attention_heads"] * config["attention_head_dim"]
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.proj_out = nn.Linear(width, self.patch**2 * (config["out_channels"] or config["in_channels"]))
        self.register_buffer("times", torch.empty(steps))
        if not self.fold:
            self.register_buffer("modulation", torch.empty(steps, 6 * config["num_layers"] + 2, width))

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
        table = self.find_rows(step)
        s = self.times if step is None else self.times.index_select(0, step)
        x, height, width = self.embed(latents)
        text, bias = self.read_text(prompt_embeds, prompt_mask)
        for i, block in enumerate(self.transformer_blocks):
            x = block(x, text, bias, height, None if table is None else table[6 * i : 6 * i + 6])
            if 0 < i <= len(residuals):
                x = x + residuals[i - 1].to(x.dtype).flatten(2).transpose(1, 2)
        x = self.proj_out(modulate(self.norm_out(x), None if table is None else table[-2:], 0))
        return latents - s * self.unpatchify(x, height, width).to(latents.dtype)

    def unpatchify(self, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Tokens [B, N, p p C] -> [B, C, h p, w p]."""
        if self.patch == 1:
            return cast(torch.Tensor, x.transpose(1, 2).unflatten(2, (height, width)))
        x = x.reshape(x.shape[0], height, width, self.patch, self.patch, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(x.shape[0], -1, height * self.patch, width * self.patch)


def modulate(x: torch.Tensor, table: torch.Tensor | None, row: int) -> torch.Tensor:
    """x (1 + scale) + shift with rows (shift, scale) of the table; unchanged where they are folded away."""
    return x if table is None else x * (1 + table[row + 1]) + table[row]


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, N, H d] -> [B, H, N, d]."""
    return cast(torch.Tensor, x.unflatten(2, (heads, -1))).transpose(1, 2)
