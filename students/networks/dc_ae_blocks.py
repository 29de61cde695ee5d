"""DC-AE's decoder with channels on axis 1 throughout: diffusers' function, in fewer operations and with no data moved for a norm.

Three identities, all exact; what they need of the weights stands in `fold_weights`.
    norm        mean over axis 1 where it is, instead of a transpose there and one back
    attention   q, k and v are one 1x1 convolution of three times the width, in the order the heads are cut from it;
                sum_n v_n k_n^T comes first (d x d, whatever N), and a row of ones under v makes the denominator one more row
    upsample    a 3x3 convolution W of a picture that nearest-neighbour doubled reads the same value at two of its three taps:
                    u[2i + a - 1 + y], y = 0, 1, 2   =   x[i - 1], x[i], x[i] for a = 0    x[i], x[i], x[i + 1] for a = 1
                so phase (a, b) of the result is a 2x2 convolution of the small picture with summed taps, 4/9 of the products:
                    K_ab = M_a W M_b^T     M_0 = [1 0 0; 0 1 1]     M_1 = [1 1 0; 0 0 1]
                One convolution with padding 1 gives all four on an (h + 1) x (w + 1) grid, phase (a, b) from row a and column b
                on. Borders agree: outside is zero for both.

Covered: every block of diffusers' decoder, both ways to upsample, every norm. The encoder's own stand in dc_ae_encoder.py.
Shapes: B batch, C channels, h w positions, N = h w, H heads of d.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers.models.attention_processor import SanaMultiscaleLinearAttention
from diffusers.models.autoencoders.autoencoder_dc import DCUpBlock2d, Decoder, EfficientViTBlock, ResBlock
from diffusers.models.normalization import RMSNorm
from diffusers.models.transformers.sana_transformer import GLUMBConv
from torch import nn
from torch.nn import functional as F

from sprint_export.weights import Handle, LazyHandle, widen_dtype

_TAPS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # M_a: [phase, tap of 2, tap of 3]


class ChannelNorm(nn.Module):
    """RMSNorm over axis 1; parameters [C], named as in RMSNorm; the mean is taken in float32, as there."""

    def __init__(self, stock: RMSNorm) -> None:
        super().__init__()
        self.eps, self.weight, self.bias = stock.eps, stock.weight, stock.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        y = x * torch.rsqrt(x.to(widen_dtype(x.dtype)).square().mean(1, keepdim=True) + self.eps)
        y = y.to(x.dtype)
        if self.weight is not None:
            y = y * self.weight[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]


class ResidualBlock(nn.Module):
    """x + norm(conv2(f(conv1(x))))."""

    def __init__(self, stock: ResBlock) -> None:
        super().__init__()
        self.nonlinearity, self.conv1, self.conv2 = stock.nonlinearity, stock.conv1, stock.conv2
        self.norm = _channel_norm(stock.norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        y: torch.Tensor = self.norm(self.conv2(self.nonlinearity(self.conv1(x))))
        return y + x


class MultiscaleAttention(nn.Module):
    """ReLU linear attention over each head's pixels and over its neighbourhoods of other sizes."""

    def __init__(self, stock: SanaMultiscaleLinearAttention) -> None:
        super().__init__()
        self.head, self.eps, self.residual = stock.attention_head_dim, stock.eps, stock.residual_connection
        device = stock.to_q.weight.device  # `meta`: what is made elsewhere has values, which an export takes for constants
        self.to_qkv = nn.Conv2d(stock.to_q.in_features, 3 * stock.to_q.out_features, 1, bias=False, device=device)
        self.to_qkv_multiscale = stock.to_qkv_multiscale
        self.to_out = nn.Conv2d(stock.to_out.in_features, stock.to_out.out_features, 1, bias=False, device=device)
        self.norm_out = _channel_norm(stock.norm_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        qkv = self.to_qkv(x)
        scales = torch.cat([qkv, *(scale(qkv) for scale in self.to_qkv_multiscale)], dim=1)
        q, k, v = scales.reshape(x.shape[0], -1, 3 * self.head, x.shape[2] * x.shape[3]).split(self.head, dim=2)  # [B, H, d, N]
        v = F.pad(v, (0, 0, 0, 1), value=1.0)  # [B, H, d + 1, N]
        # k is turned before its ReLU, which then is one pass with the split: a turn of its own would be another.
        y = (v @ k.transpose(2, 3).relu()) @ q.relu()  # [B, H, d + 1, N]
        y = y.to(widen_dtype(y.dtype))
        y = (y[:, :, :-1] / (y[:, :, -1:] + self.eps)).to(x.dtype).reshape(x.shape[0], -1, *x.shape[2:])
        out: torch.Tensor = self.norm_out(self.to_out(y))
        return out + x if self.residual else out


class GatedConvolution(nn.Module):
    """x + norm(point(a * silu(b))) with a, b the halves of depthwise(silu(inverted(x)))."""

    def __init__(self, stock: GLUMBConv) -> None:
        super().__init__()
        self.conv_inverted, self.conv_depth, self.conv_point = stock.conv_inverted, stock.conv_depth, stock.conv_point
        self.nonlinearity, self.residual = stock.nonlinearity, stock.residual_connection
        self.norm = nn.Identity() if stock.norm is None else _channel_norm(stock.norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        y, gate = self.conv_depth(self.nonlinearity(self.conv_inverted(x))).chunk(2, dim=1)
        out: torch.Tensor = self.norm(self.conv_point(y * self.nonlinearity(gate)))
        return out + x if self.residual else out


# What a module of a class computes once, in the words of the rules that rewrite it (`serves` in export/to_onnx/rules/).
FORMS: dict[type[nn.Module], tuple[str, ...]] = {GatedConvolution: ("gated convolution",), ChannelNorm: ("RMS norm",)}


class AttentionBlock(nn.Module):
    """Attention, then a gated convolution."""

    def __init__(self, stock: EfficientViTBlock) -> None:
        super().__init__()
        self.attn, self.conv_out = MultiscaleAttention(stock.attn), GatedConvolution(stock.conv_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> the same."""
        y: torch.Tensor = self.conv_out(self.attn(x))
        return y


class Upsample(nn.Module):
    """[B, C, h, w] -> [B, D, 2h, 2w], with a shortcut that repeats channels where there is one."""

    def __init__(self, stock: DCUpBlock2d) -> None:
        super().__init__()
        self.repeats = stock.repeats if stock.shortcut else 0
        self.folded: bool = stock.interpolate
        conv = stock.conv
        if self.folded:
            assert stock.interpolation_mode == "nearest"
            depth, bias, device = 4 * conv.out_channels, conv.bias is not None, conv.weight.device
            conv = nn.Conv2d(conv.in_channels, depth, 2, padding=1, bias=bias, device=device)
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, D, 2h, 2w]."""
        y = self.conv(x)  # [B, 4 D, h + 1, w + 1] with phases outermost, or [B, D 4, h, w]
        if self.folded:
            y = _gather_phases(y, *x.shape[2:])
        y = F.pixel_shuffle(y, 2)
        if not self.repeats:
            return y
        # A shuffle of its own: were the sum shuffled, TensorRT would keep the sum and shuffle it again for every reader.
        return y + F.pixel_shuffle(x.repeat_interleave(self.repeats, dim=1, output_size=4 * y.shape[1]), 2)


def _gather_phases(y: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """[B, 4 D, h + 1, w + 1] -> [B, D 4, h, w]: phase (a, b) from row a and column b on.

    Rows and columns are cut before channels: the other way TensorRT makes a split into four, a pass over memory of its own.
    """
    depth = y.shape[1] // 4
    cut = [y[:, :, a : a + h, b : b + w] for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))]
    return torch.stack([grid[:, i * depth : (i + 1) * depth] for i, grid in enumerate(cut)], dim=2).flatten(1, 2)


class ChannelsFirstDecoder(nn.Module):
    """diffusers' Decoder of these blocks; module names are its own, but for `attn.to_qkv`."""

    def __init__(self, stock: Decoder) -> None:
        super().__init__()
        self.conv_in = stock.conv_in
        self.repeats = stock.in_shortcut_repeats if stock.in_shortcut else 0
        self.up_blocks = nn.ModuleList(nn.Sequential(*map(arrange, level)) for level in stock.up_blocks)
        self.norm_out, self.conv_act = _channel_norm(stock.norm_out), stock.conv_act
        self.conv_out = arrange(stock.conv_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Latents [B, C, h, w] -> image [B, 3, H, W]."""
        y = self.conv_in(x)
        if self.repeats:
            y = y + x.repeat_interleave(self.repeats, dim=1, output_size=y.shape[1])
        for level in reversed(self.up_blocks):
            y = level(y)
        image: torch.Tensor = self.conv_out(self.conv_act(self.norm_out(y)))
        return image


def arrange(block: nn.Module) -> nn.Module:
    """The block of ours that computes a stock one; others stay."""
    if isinstance(block, ResBlock):
        return ResidualBlock(block)
    if isinstance(block, EfficientViTBlock):
        return AttentionBlock(block)
    return Upsample(block) if isinstance(block, DCUpBlock2d) else block


def _channel_norm(stock: nn.Module) -> nn.Module:
    """Every other norm of diffusers' decoder is over axis 1 already."""
    return ChannelNorm(stock) if isinstance(stock, RMSNorm) else stock


def fold_weights(decoder: nn.Module, weights: Mapping[str, Handle]) -> dict[str, Handle]:
    """The stock decoder's weights as a tree of these blocks wants them; both are named from the same root.

    Args:
        decoder: holds these blocks; on `meta`.
        weights: stock names -> handles.
    """
    folded = dict(weights)
    for name, module in decoder.named_modules():
        if isinstance(module, MultiscaleAttention):
            parts = [folded.pop(f"{name}.to_{part}.weight") for part in "qkv"]
            folded[f"{name}.to_qkv.weight"] = _stack_pointwise(parts)
            folded[f"{name}.to_out.weight"] = _stack_pointwise([folded[f"{name}.to_out.weight"]])
        if isinstance(module, Upsample) and module.folded:
            folded[f"{name}.conv.weight"] = _sum_taps(folded[f"{name}.conv.weight"])
            if module.conv.bias is not None:
                folded[f"{name}.conv.bias"] = _repeat(folded[f"{name}.conv.bias"])
    return folded


def _stack_pointwise(parts: list[Handle]) -> LazyHandle:
    """Linears [out, in] as one 1x1 convolution [sum of outs, in, 1, 1]."""
    shape = (sum(part.shape[0] for part in parts), parts[0].shape[1], 1, 1)
    return LazyHandle(shape, parts[0].dtype, lambda: torch.cat([part.load() for part in parts]).reshape(shape))


def _sum_taps(weight: Handle) -> LazyHandle:
    """[D, C, 3, 3] -> K [4 D, C, 2, 2], phases outermost."""
    dtype = widen_dtype(weight.dtype)
    taps = _TAPS.to(dtype)

    def compute() -> torch.Tensor:
        return torch.einsum("aiy,bjx,dcyx->abdcij", taps, taps, weight.load().to(dtype)).flatten(0, 2)

    return LazyHandle((4 * weight.shape[0], weight.shape[1], 2, 2), dtype, compute)


def _repeat(bias: Handle) -> LazyHandle:
    return LazyHandle((4 * bias.shape[0],), bias.dtype, lambda: bias.load().repeat(4))
