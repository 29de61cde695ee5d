"""Z-Image's transformer as two networks of one fixed text length: what reads the text once, and what runs in each step.

The stock model pads a caption of n tokens with a learnt token to n' = 32 ceil(n / 32), attends to all n', and lets the
picture begin at position n' + 1: another n' is another model. Here there are always R >= n' rows, and the graph takes the rest
back:
    row j of the text    j < n: the caption's    n <= j < n': the learnt token    j >= n': hidden by a bias, in all attentions
    the picture          its frame's rotation is the row n' / 32 of a table
n' comes from the mask alone, which is 1 for n rows and then 0: block b of 32 rows is attended to where its first row is, so
n' / 32 is the number of ones among rows 0, 32, 64, ... Exact for every caption that fits.
Image tokens are padded to a multiple of 32 too, with another learnt token at position (0, 0, 0). Of a picture of one size their
number is fixed; where sides are free there are always 31, and those beyond a multiple of 32 are hidden like the text's.

    v = -model(x, 1 - s, text)        denoised = x - s v = x + s model
Source: diffusers' ZImageTransformer2DModel (transformer_z_image.py), in float64 in tests/students/networks/test_z_image.py.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from torch import nn

from sprint_export.students.networks.free_rotations import PARTS, FreePlane, tabulate_plane
from sprint_export.students.networks.z_image_blocks import RESIDUAL, Block, Norm, Rotation, hide
from sprint_export.weights import Handle, constant

BLOCK: int = SEQ_MULTI_OF  # 32
FINAL_EPS = 1e-6  # FinalLayer's LayerNorm


def round_up(count: int) -> int:
    """The next multiple of 32."""
    return -(-count // BLOCK) * BLOCK


def list_valid(mask: torch.Tensor, before: int) -> torch.Tensor:
    """mask int64 [B, T - before] -> int64 [B, R / 32], 1 for blocks that are attended to: the first always, it has the template.

    Args:
        mask: of the rows behind the first ones.
        before: how many those are, 1 to 32.
    """
    return torch.cat([mask[:, :1] * 0 + 1, mask[:, BLOCK - before :: BLOCK]], dim=1)


def spread(blocks: torch.Tensor) -> torch.Tensor:
    """[B, R / 32] -> [B, R]."""
    return blocks[:, :, None].expand(-1, -1, BLOCK).flatten(1)


def _make_block(config: Mapping[str, Any], has_gains: bool = True) -> Block:
    return Block(config["dim"], config["n_heads"], config["norm_eps"], config["qk_norm"], has_gains)


class TextRefiner(nn.Module):
    """Rows of the text encoder, divided by `scale` -> rows [B, R, D] / R for the transformer.

    Args:
        config: the transformer's.
        before: how many rows stand before those of the mask.
        rows: R.
        scale: what the encoder's rows are divided by; the first norm undoes it.
    """

    cos: torch.Tensor  # [1, R, d / 2]
    sin: torch.Tensor

    def __init__(self, config: Mapping[str, Any], before: int, rows: int, scale: float) -> None:
        super().__init__()
        self.before, self.rows, width = before, rows, config["dim"]
        self.cap_embedder = nn.Sequential(
            Norm(config["cap_feat_dim"], config["norm_eps"] / scale**2), nn.Linear(config["cap_feat_dim"], width)
        )
        self.cap_pad_token = nn.Parameter(torch.empty(1, width))
        self.context_refiner = nn.ModuleList(_make_block(config) for _ in range(config["n_refiner_layers"]))
        for table in ("cos", "sin"):
            self.register_buffer(table, torch.empty(1, rows, width // config["n_heads"] // 2))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """hidden [B, T, E], mask int64 [B, T - before] -> [B, R, D]."""
        text: torch.Tensor = self.cap_embedder(hidden)
        pad = self.cap_pad_token[None].expand(text.shape[0], -1, -1)
        parts = [text[:, : self.before], torch.where(mask[..., None] > 0, text[:, self.before :], pad)]
        if self.rows > text.shape[1]:
            parts.append(pad.expand(-1, self.rows - text.shape[1], -1))
        text = torch.cat(parts, dim=1)
        bias = hide(spread(list_valid(mask, self.before)), text.dtype)
        for block in self.context_refiner:
            text = block(text, (self.cos, self.sin), bias)
        return text


class OneStepZImage(nn.Module):
    """(latents, prompt_embeds, prompt_mask[, step]) -> denoised = latents + s model, float32 at both ends.

    Args:
        config: the transformer's.
        steps: how many times there are.
        sides: height and width of the latents.
        text: how many rows stand before those of the mask, and R.
    """

    times: torch.Tensor  # [steps]
    gains: torch.Tensor  # [steps, 4 (refiners + layers) + 1, D]
    cos: torch.Tensor  # [1, N', pairs of row and column]
    sin: torch.Tensor
    frame_cos: torch.Tensor  # [1 + R / 32, pairs of the frame]: of pictures behind so many blocks of text
    frame_sin: torch.Tensor
    text_cos: torch.Tensor  # [1, R, d / 2]
    text_sin: torch.Tensor

    def __init__(self, config: Mapping[str, Any], steps: int, sides: tuple[int, int], text: tuple[int, int]) -> None:
        super().__init__()
        width, self.patch, channels = config["dim"], config["all_patch_size"][0], config["in_channels"]
        self.fold, (self.before, self.rows) = steps == 1, text
        self.sides = sides[0] // self.patch, sides[1] // self.patch
        count = self.sides[0] * self.sides[1]
        self.places: FreePlane | None = None  # in place of the tables of rows and columns
        name = f"{self.patch}-{config['all_f_patch_size'][0]}"
        self.all_x_embedder = nn.ModuleDict({name: nn.Linear(self.patch**2 * channels, width)})
        self.padding = round_up(count) - count
        if self.padding:
            self.x_pad_token = nn.Parameter(torch.empty(1, width))
        self.noise_refiner = nn.ModuleList(_make_block(config, self.fold) for _ in range(config["n_refiner_layers"]))
        self.layers = nn.ModuleList(_make_block(config, self.fold) for _ in range(config["n_layers"]))
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=FINAL_EPS / RESIDUAL**2)
        self.all_final_layer = nn.ModuleDict({name: nn.ModuleDict({"linear": nn.Linear(width, self.patch**2 * channels)})})
        frame, *plane = (size // 2 for size in config["axes_dims"])
        for table in ("cos", "sin"):
            self.register_buffer(table, torch.empty(1, count + self.padding, sum(plane)))
            self.register_buffer(f"frame_{table}", torch.empty(1 + self.rows // BLOCK, frame))
            self.register_buffer(f"text_{table}", torch.empty(1, self.rows, frame + sum(plane)))
        self.register_buffer("times", torch.empty(steps))
        if not self.fold:
            rows = 4 * (config["n_refiner_layers"] + config["n_layers"]) + 1
            self.register_buffer("gains", torch.empty(steps, rows, width))

    def forward(
        self, latents: torch.Tensor, prompt_embeds: torch.Tensor, prompt_mask: torch.Tensor, step: torch.Tensor | None = None
    ) -> torch.Tensor:
        """latents float [B, C, h, w], prompt_embeds [B, R, D], prompt_mask int64 [B, T - before], step int64 [1]."""
        gains = None if step is None else self.gains.index_select(0, step)[0]
        s = self.times if step is None else self.times.index_select(0, step)
        (embed,), (last,) = self.all_x_embedder.values(), self.all_final_layer.values()
        leave: Any = last.get_submodule("linear")
        sides = latents.shape[2] // self.patch, latents.shape[3] // self.patch
        count = sides[0] * sides[1]
        x: torch.Tensor = embed(self.patchify(latents.to(leave.weight.dtype), sides))
        if self.padding:
            x = torch.cat([x, self.x_pad_token[None].expand(x.shape[0], self.padding, -1)], dim=1)
        blocks = list_valid(prompt_mask, self.before)
        rotation = self.rotate_picture(blocks, sides)
        surplus = self.hide_surplus(blocks, count, x.dtype)
        blocks_of = len(self.noise_refiner)
        for i, block in enumerate(self.noise_refiner):
            x = block(x, rotation, surplus, _rows(gains, i))
        x = torch.cat([x, prompt_embeds.to(x.dtype)], dim=1)
        seen = hide(blocks[:, :1], x.dtype).expand(-1, -1, -1, count + self.padding) if surplus is None else surplus
        bias = torch.cat([seen, hide(spread(blocks), x.dtype)], dim=3)
        both = self.join_rotations(rotation)
        for i, block in enumerate(self.layers):
            x = block(x, both, bias, _rows(gains, blocks_of + i))
        x = self.norm_final(x[:, :count])
        x = leave(x if gains is None else x * gains[-1])
        return latents + s * self.unpatchify(x, sides).to(latents.dtype)

    def hide_surplus(self, blocks: torch.Tensor, count: int, dtype: torch.dtype) -> torch.Tensor | None:
        """A bias [B, 1, 1, N'] for what stands beyond a multiple of 32 tokens; None where nothing does, as in one fixed size."""
        if self.places is None:
            return None
        numbers = torch.arange(1, BLOCK, device=blocks.device)  # of the padding's tokens
        last = torch.arange(count, device=blocks.device)[-1:] + 1
        padded = (numbers <= (BLOCK - last % BLOCK) % BLOCK).to(blocks.dtype)
        ones = blocks[:, :1] * 0 + 1
        return hide(torch.cat([ones.expand(-1, count), padded[None].expand(ones.shape[0], -1)], dim=1), dtype)

    def find_plane(self, sides: tuple[int, int]) -> Rotation:
        """Rotations [1, N', pairs] by row and column, the padding's among them."""
        if self.places is None:
            return self.cos, self.sin
        rows, columns = (torch.arange(side, device=self.text_cos.device) for side in sides)
        cos, sin = self.places(rows, columns)
        rest = cos[:, :1].expand(-1, self.padding, -1) * 0  # at position (0, 0): not turned
        return torch.cat([cos, rest + 1], dim=1), torch.cat([sin, rest], dim=1)

    def rotate_picture(self, blocks: torch.Tensor, sides: tuple[int, int]) -> Rotation:
        """blocks int64 [B, R / 32] -> rotations of the image tokens [B, N', d / 2]; padded ones are not turned."""
        place, found = blocks.sum(1), []
        cos, sin = self.find_plane(sides)
        for plane, frames, rest in ((cos, self.frame_cos, 1.0), (sin, self.frame_sin, 0.0)):
            frame = frames.index_select(0, place)[:, None]
            turned = frame.expand(-1, sides[0] * sides[1], -1)
            if self.padding:
                turned = torch.cat([turned, (frame * 0 + rest).expand(-1, self.padding, -1)], dim=1)
            found.append(torch.cat([turned, plane.expand(frame.shape[0], -1, -1)], dim=2))
        return found[0], found[1]

    def join_rotations(self, picture: Rotation) -> Rotation:
        """Of image tokens and text rows, one behind the other."""
        cos, sin = (
            torch.cat([image, text.expand(image.shape[0], -1, -1)], dim=1)
            for image, text in zip(picture, (self.text_cos, self.text_sin), strict=True)
        )
        return cos, sin

    def patchify(self, x: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
        """Latents [B, C, h p, w p] -> tokens [B, h w, p p C]."""
        x = x.reshape(x.shape[0], -1, sides[0], self.patch, sides[1], self.patch).permute(0, 2, 4, 3, 5, 1)
        return x.reshape(x.shape[0], sides[0] * sides[1], -1)

    def unpatchify(self, x: torch.Tensor, sides: tuple[int, int]) -> torch.Tensor:
        """Tokens [B, h w, p p C] -> [B, C, h p, w p]."""
        x = x.reshape(x.shape[0], *sides, self.patch, self.patch, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(x.shape[0], -1, sides[0] * self.patch, sides[1] * self.patch)


def free_sides(
    network: OneStepZImage, weights: Mapping[str, Handle], config: Mapping[str, Any]
) -> tuple[OneStepZImage, dict[str, Handle]]:
    """The same network and weights for latents of any sides: rotations are looked up, and 31 tokens of padding always there.

    Args:
        network: on `meta`; it is left as it is.
        weights: by its names, and `x_pad_token`.
        config: the stock transformer's.
    """
    free, (_, rows, columns) = copy.deepcopy(network), config["axes_dims"]
    for name in PARTS:
        delattr(free, name)
    with torch.device("meta"):
        free.places = FreePlane((rows // 2, columns // 2), is_centred=False)
        free.padding, free.x_pad_token = BLOCK - 1, nn.Parameter(torch.empty(weights["x_pad_token"].shape))
    tables = tabulate_plane(tuple(config["axes_dims"]), config["rope_theta"])
    named = {f"places.{name}": constant(table) for name, table in tables.items()}
    return free.eval(), {name: handle for name, handle in weights.items() if name not in PARTS} | named


def _rows(gains: torch.Tensor | None, block: int) -> torch.Tensor | None:
    """A block's four rows of the table."""
    return None if gains is None else gains[4 * block : 4 * block + 4]
