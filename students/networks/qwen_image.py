"""Qwen-Image's transformer once the time is fixed: two streams, text and picture, that attend to each other in every block.

    x = x + gate out(attend(scale n(x) + shift, ...))        x = x + gate' mlp(scale' n(x) + shift'), for either stream
One time: scale and shift are in the layers that read a norm, gates in those that write to a stream, and no time path is left.
More times: `modulation` [steps, 12 L + 2, D] is gathered by step: six rows of the picture's stream, six of the text's, a block.

Text. Rows behind the prompt's end are hidden by a bias in every attention, which is what the stock model computes without them.
The last block's text stream is read by nobody: it has keys and values there, and no queries, output or feed-forward.
Rotations are real-valued (z_image_blocks.py), with tables for one size, or looked up by the latents' own (free_rotations.py):
picture positions are centred on 0, and the text's begin at half of the larger side. Latents are packed here, channels outermost
within a patch, so noise keeps its shape.

Range: either stream is divided by R (what enters it and its gates / R, eps / R^2); a norm does not care.
Module names are diffusers', but for `last_block`: the others are equal, so that a few of them are captured for all.
Shapes: B batch, N = h w picture tokens, T text rows, D width, H heads of d.
Source: diffusers' QwenImageTransformer2DModel, in float64 in tests/students/networks/test_qwen_image.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers import QwenImageTransformer2DModel
from diffusers.models.attention import FeedForward
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope, QwenTimestepProjEmbeddings
from torch import nn

from sprint_export.students.networks.free_rotations import FreeQwenRotations, tabulate_qwen
from sprint_export.students.networks.z_image_blocks import Norm, Rotation, hide, rotate
from sprint_export.weights import Handle, constant

EPS = 1e-6  # of every norm of the stock model
RESIDUAL = 32.0  # R
THETA = 10000  # base of the rotations
ROWS = 12  # of modulation a block: shift, scale, gate of attention and of feed-forward, picture first


def make_qwen_image(config: Mapping[str, Any], has_second: bool = False) -> QwenImageTransformer2DModel:
    """The stock transformer: parameters on `meta`, rotations in memory; `has_second`: with TwinFlow's second time embedder."""
    with torch.device("meta"):
        stock = QwenImageTransformer2DModel.from_config(dict(config))
        if has_second:
            stock.time_text_embed_2 = QwenTimestepProjEmbeddings(stock.inner_dim)
    stock.pos_embed = _make_rope(config)
    return stock.eval()


def _make_rope(config: Mapping[str, Any]) -> QwenEmbedRope:
    return QwenEmbedRope(theta=THETA, axes_dim=list(config["axes_dims_rope"]), scale_rope=True)


class Attention(nn.Module):
    """Both streams' projections, named as in diffusers; without `has_queries` the text gives keys and values only."""

    def __init__(self, width: int, heads: int, has_queries: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(5))
        self.norm_q, self.norm_k, self.norm_added_k = (Norm(width // heads, EPS) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        if has_queries:
            self.add_q_proj, self.to_add_out = nn.Linear(width, width), nn.Linear(width, width)
            self.norm_added_q = Norm(width // heads, EPS)

    def forward(
        self, x: torch.Tensor, text: torch.Tensor, rotations: tuple[Rotation, Rotation], bias: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """x [B, N, D], text [B, T, D], bias [B, 1, 1, T + N] -> [B, N, D] and [B, T, D] or None."""
        picture, words = rotations
        q, k = (
            rotate(self.norm_q(self.split(self.to_q(x))), picture, 2),
            rotate(self.norm_k(self.split(self.to_k(x))), picture, 2),
        )
        text_k = rotate(self.norm_added_k(self.split(self.add_k_proj(text))), words, 2)
        keys = torch.cat([text_k, k], dim=1)
        values = torch.cat([self.split(self.add_v_proj(text)), self.split(self.to_v(x))], dim=1)
        if not hasattr(self, "add_q_proj"):
            return cast(torch.Tensor, self.to_out[0](_attend(q, keys, values, bias))), None
        text_q = rotate(self.norm_added_q(self.split(self.add_q_proj(text))), words, 2)
        joined = _attend(torch.cat([text_q, q], dim=1), keys, values, bias)
        rows = text.shape[1]
        return self.to_out[0](joined[:, rows:]), self.to_add_out(joined[:, :rows])

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """[B, S, D] -> [B, S, H, d]; heads are moved last (z_image_blocks.py says why)."""
        return cast(torch.Tensor, x.unflatten(2, (self.heads, -1)))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T + bias) v of [B, S, H, d], heads joined; 1 / sqrt(d) is in the weights that make the queries."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    return (torch.softmax(q @ k.transpose(2, 3) + bias, dim=-1) @ v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """One block; without `has_text` its text stream ends in keys and values."""

    def __init__(self, width: int, heads: int, has_text: bool) -> None:
        super().__init__()
        self.attn = Attention(width, heads, has_text)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=EPS / RESIDUAL**2)
        self.img_mlp = FeedForward(dim=width, dim_out=width, activation_fn="gelu-approximate")
        if has_text:
            self.txt_mlp = FeedForward(dim=width, dim_out=width, activation_fn="gelu-approximate")

    def forward(
        self,
        x: torch.Tensor,
        text: torch.Tensor,
        rotations: tuple[Rotation, Rotation],
        bias: torch.Tensor,
        table: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x [B, N, D], text [B, T, D], both / R; table [12, D] or None -> both after the block."""
        picture_rows, text_rows = (None, None) if table is None else (table[: ROWS // 2], table[ROWS // 2 :])
        y, words = self.attn(modulate(self.norm(x), picture_rows, 0), modulate(self.norm(text), text_rows, 0), rotations, bias)
        x = x + gate(y, picture_rows, 2)
        x = x + gate(self.img_mlp(modulate(self.norm(x), picture_rows, 3)), picture_rows, 5)
        if words is None:
            return x, text
        text = text + gate(words, text_rows, 2)
        return x, text + gate(self.txt_mlp(modulate(self.norm(text), text_rows, 3)), text_rows, 5)


def modulate(x: torch.Tensor, rows: torch.Tensor | None, first: int) -> torch.Tensor:
    """x (1 + scale) + shift with rows (shift, scale); unchanged where they are folded away."""
    return x if rows is None else x * (1 + rows[first + 1]) + rows[first]


def gate(x: torch.Tensor, rows: torch.Tensor | None, row: int) -> torch.Tensor:
    """x times a row; unchanged where it is folded away."""
    return x if rows is None else x * rows[row]


class OneStepQwenImage(nn.Module):
    """(latents, prompt_embeds, prompt_mask[, step]) -> denoised = latents - s v, float32 at both ends.

    Args:
        config: the stock transformer's.
        steps: how many times there are.
        sides: height and width of the latents.
        rows: T.
    """

    times: torch.Tensor  # [steps]
    modulation: torch.Tensor  # [steps, 12 L + 2, D], the last two the output's scale and shift
    cos: torch.Tensor  # [1, N, d / 2]
    sin: torch.Tensor
    text_cos: torch.Tensor  # [1, T, d / 2]
    text_sin: torch.Tensor

    def __init__(self, config: Mapping[str, Any], steps: int, sides: tuple[int, int], rows: int) -> None:
        super().__init__()
        heads, layers, self.patch = config["num_attention_heads"], config["num_layers"], config["patch_size"]
        width, self.fold = heads * config["attention_head_dim"], steps == 1
        self.sides = sides[0] // self.patch, sides[1] // self.patch
        self.places: FreeQwenRotations | None = None  # in place of the tables
        self.img_in = nn.Linear(config["in_channels"], width)
        self.txt_norm = Norm(config["joint_attention_dim"], EPS)
        self.txt_in = nn.Linear(config["joint_attention_dim"], width)
        self.transformer_blocks = nn.ModuleList(Block(width, heads, has_text=True) for _ in range(layers - 1))
        self.last_block = Block(width, heads, has_text=False)
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=EPS / RESIDUAL**2)
        self.proj_out = nn.Linear(width, self.patch**2 * config["out_channels"])
        for table, length in (("", self.sides[0] * self.sides[1]), ("text_", rows)):
            for name in ("cos", "sin"):
                self.register_buffer(f"{table}{name}", torch.empty(1, length, width // heads // 2))
        self.register_buffer("times", torch.empty(steps))
        if not self.fold:
            self.register_buffer("modulation", torch.empty(steps, ROWS * layers + 2, width))

    def forward(
        self, latents: torch.Tensor, prompt_embeds: torch.Tensor, prompt_mask: torch.Tensor, step: torch.Tensor | None = None
    ) -> torch.Tensor:
        """latents float [B, C, h p, w p], prompt_embeds [B, T, E], prompt_mask int64 [B, T], step int64 [1]."""
        dtype = self.proj_out.weight.dtype
        table = None if step is None else self.modulation.index_select(0, step)[0]
        s = self.times if step is None else self.times.index_select(0, step)
        sides = latents.shape[2] // self.patch, latents.shape[3] // self.patch
        x = self.img_in(self.pack(latents.to(dtype), sides))
        text = self.txt_in(self.txt_norm(prompt_embeds.to(dtype)))
        bias = torch.cat([hide(prompt_mask, dtype), x.new_zeros((x.shape[0], 1, 1, x.shape[1]))], dim=3)
        rotations = self.find_rotations(sides, text.shape[1])
        for i, block in enumerate((*self.transformer_blocks, self.last_block)):
            x, text = block(x, text, rotations, bias, None if table is None else table[ROWS * i : ROWS * (i + 1)])
        y = self.norm(x) if table is None else self.norm(x) * (1 + table[-2]) + table[-1]
        return latents - s * self.unpack(self.proj_out(y), sides).to(latents.dtype)

    def find_rotations(self, sides: tuple[int, int], rows: int) -> tuple[Rotation, Rotation]:
        """Of the picture's tokens and of the text's rows."""
        if self.places is not None:
            found: tuple[Rotation, Rotation] = self.places(*sides, rows)
            return found
        return (self.cos, self.sin), (self.text_cos, self.text_sin)

    def pack(self, x: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
        """Latents [B, C, h p, w p] -> tokens [B, h w, C p p]."""
        x = x.reshape(x.shape[0], -1, sides[0], self.patch, sides[1], self.patch).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(x.shape[0], sides[0] * sides[1], -1)

    def unpack(self, x: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
        """Tokens [B, h w, C p p] -> [B, C, h p, w p]."""
        x = x.reshape(x.shape[0], *sides, -1, self.patch, self.patch).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(x.shape[0], -1, sides[0] * self.patch, sides[1] * self.patch)


def tabulate_rotations(config: Mapping[str, Any], sides: tuple[int, int], rows: int) -> dict[str, torch.Tensor]:
    """The four tables float32 by the buffers' names, diffusers' own to the last digit.

    Args:
        config: the stock transformer's.
        sides: height and width in patches.
        rows: T.
    """
    tables = _make_rope(config)([[(1, *sides)]], max_txt_seq_len=rows)
    named = zip(("", "text_"), tables, strict=True)
    return {f"{name}{part}": value[None].contiguous() for name, table in named for part, value in _split_complex(table)}


def free_sides(
    network: OneStepQwenImage, weights: Mapping[str, Handle], config: Mapping[str, Any]
) -> tuple[OneStepQwenImage, dict[str, Handle]]:
    """The same network and weights for latents of any sides: rotations are looked up, the tables of one size are gone.

    Args:
        network: on `meta`; it is left as it is.
        weights: by its names.
        config: the stock transformer's.
    """
    free, rows = copy.deepcopy(network), network.text_cos.shape[1]
    tables = ("cos", "sin", "text_cos", "text_sin")
    for name in tables:
        delattr(free, name)
    with torch.device("meta"):
        free.places = FreeQwenRotations(config, rows)
    named = {f"places.{name}": constant(table) for name, table in tabulate_qwen(config, _make_rope(config), rows).items()}
    return free.eval(), {name: handle for name, handle in weights.items() if name not in tables} | named


def _split_complex(table: torch.Tensor) -> tuple[tuple[str, torch.Tensor], ...]:
    return ("cos", table.real), ("sin", table.imag)
