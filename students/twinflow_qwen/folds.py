"""TwinFlow-Qwen-Image's transformer at fixed times: which fold of folding.py applies to which layer, in weights that stay lazy.

    temb = E1(t) + E2(0) (t - 0)        the released wrapper's, its second time always 0; E1(t) alone where there is no E2 (LoRA)
    rows = img_mod(silu temb), txt_mod(silu temb), norm_out(silu temb)
One time folds every row into the layers beside it; more keep the rows, a table a time. Both leave out what made them (33.4 % of
the parameters) and the last block's text stream behind its keys and values, which nobody reads.
Source: inclusionAI/TwinFlow's QwenImageTransformer2DModelWrapper, arXiv 2512.05150; in float64 in
tests/students/networks/test_qwen_image.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F

from sprint_export.nouns.student import Component
from sprint_export.students.folding import fold_gate, fold_scale_shift
from sprint_export.students.networks.qwen3 import make_gain
from sprint_export.students.networks.qwen_image import RESIDUAL, ROWS
from sprint_export.students.networks.z_image_blocks import pair_order
from sprint_export.weights import Handle, LazyHandle, constant, materialize, widen_dtype

EMBEDDERS = ("time_text_embed.timestep_embedder", "time_text_embed_2.timestep_embedder")
TIME_PATH = ("time_text_embed", "norm_out.")  # beginnings of names that only the time reads
DEAD = ("txt_mlp.", "attn.to_add_out.", "attn.add_q_proj.", "attn.norm_added_q.")  # of the last block
READ_BY = {  # what reads a norm -> the stream, and the first of its rows
    "attn.to_q": 0,
    "attn.to_k": 0,
    "attn.to_v": 0,
    "img_mlp.net.0.proj": 3,
    "attn.add_q_proj": 6,
    "attn.add_k_proj": 6,
    "attn.add_v_proj": 6,
    "txt_mlp.net.0.proj": 9,
}
WRITES = {"attn.to_out.0": 2, "img_mlp.net.2": 5, "attn.to_add_out": 8, "txt_mlp.net.2": 11}  # and its gate's row
HEADS = {"to_q": "norm_q", "to_k": "norm_k", "add_q_proj": "norm_added_q", "add_k_proj": "norm_added_k"}


def fold_transformer(
    component: Component, config: Mapping[str, Any], times: Sequence[float]
) -> tuple[dict[str, Handle], tuple[str, ...]]:
    """The specialized transformer's weights, but for the tables of rotations, and a note per rule that says what it did."""
    weights, layers = component.weights, config["num_layers"]
    dead = tuple(f"transformer_blocks.{layers - 1}.{name}" for name in DEAD)
    kept = {k: v for k, v in weights.items() if not k.startswith((*TIME_PATH, *dead)) and "_mod.1." not in k}
    kept |= order_heads(kept, config)
    divided = torch.full(kept["img_in.bias"].shape, 1 / RESIDUAL, dtype=torch.float64)
    kept |= fold_gate(kept, "img_in", divided) | fold_gate(kept, "txt_in", divided)
    kept["txt_norm.weight"] = make_gain(kept["txt_norm.weight"])
    kept["times"] = constant(torch.tensor(times, dtype=widen_dtype(weights["proj_out.weight"].dtype)))
    lost = sum(math.prod(handle.shape) for name, handle in weights.items() if name.startswith(dead))
    note = f"dead: the last block's text stream behind its keys and values ({lost:,} parameters)"
    paths = [TimePath(component, s) for s in times]
    blocks = [f"transformer_blocks.{i}" for i in range(layers)]
    if len(times) > 1:
        kept["modulation"] = _tabulate(paths, blocks)
        for layer in [f"{block}.{name}" for block in blocks for name in WRITES if f"{block}.{name}.weight" in kept]:
            kept |= fold_gate(kept, layer, divided)
        return _name_last(kept, blocks[-1]), (
            f"time path: {len(times)} tables gathered by step (a fold serves one step only)",
            note,
        )
    folded = dict(kept)
    for block in blocks:
        folded |= _fold_block(kept, paths[0], block)
    folded |= _later(kept, "proj_out", lambda: fold_scale_shift(kept, "proj_out", *paths[0].make_output()))
    return _name_last(folded, blocks[-1]), (
        f"time path: {ROWS * layers + 2} modulation vectors folded into the layers beside them",
        note,
    )


def _name_last(weights: Mapping[str, Handle], block: str) -> dict[str, Handle]:
    """The last block under its own name: it is not like the others."""
    return {name.replace(f"{block}.", "last_block.", 1): handle for name, handle in weights.items()}


def _fold_block(weights: Mapping[str, Handle], path: TimePath, block: str) -> dict[str, Handle]:
    """Scale and shift into what reads a norm, gates / R into what writes to a stream; rows are made when a weight is pulled."""
    folded: dict[str, Handle] = {}
    for name, row in READ_BY.items():
        if f"{block}.{name}.weight" in weights:

            def read(layer: str = f"{block}.{name}", row: int = row) -> dict[str, Handle]:
                rows = path.make_rows(block)
                return fold_scale_shift(weights, layer, rows[row + 1], rows[row])

            folded |= _later(weights, f"{block}.{name}", read)
    for name, row in WRITES.items():
        if f"{block}.{name}.weight" in weights:

            def write(layer: str = f"{block}.{name}", row: int = row) -> dict[str, Handle]:
                return fold_gate(weights, layer, path.make_rows(block)[row] / RESIDUAL)

            folded |= _later(weights, f"{block}.{name}", write)
    return folded


def _later(weights: Mapping[str, Handle], layer: str, fold: Callable[[], Mapping[str, Handle]]) -> dict[str, Handle]:
    """A layer's weight and bias as `fold` gives them, which is asked when one is pulled."""
    return {
        name: LazyHandle(weights[name].shape, widen_dtype(weights[name].dtype), lambda name=name: fold()[name].load())  # type: ignore[misc]
        for name in (f"{layer}.weight", f"{layer}.bias")
    }


def _tabulate(paths: Sequence[TimePath], blocks: Sequence[str]) -> Handle:
    """[times, 12 L + 2, D]: every block's rows, then the output's scale and shift."""
    width = paths[0].width

    def compute() -> torch.Tensor:
        return torch.stack([torch.cat([*map(path.make_rows, blocks), torch.stack(path.make_output())]) for path in paths])

    return LazyHandle((len(paths), ROWS * len(blocks) + 2, width), paths[0].dtype, compute)


class TimePath:
    """What a fixed time s makes of itself: rows of modulation by block, made when they are asked for and kept (12 D values)."""

    def __init__(self, component: Component, s: float) -> None:
        self._component, self._weights, self._s = component, component.weights, s
        self._rows: dict[str, torch.Tensor] = {}
        self.width = component.weights["proj_out.weight"].shape[1]
        self.dtype = widen_dtype(component.weights["proj_out.weight"].dtype)

    @cached_property
    def state(self) -> torch.Tensor:
        """silu(temb) [D]. The stock sinusoids and embedders run once, so their roundings are diffusers' own."""
        stock: Any = self._component.module
        found = []
        for name, time, factor in ((EMBEDDERS[0], self._s, 1.0), (EMBEDDERS[1], 0.0, self._s)):
            handles = {k.removeprefix(f"{name}."): v for k, v in self._weights.items() if k.startswith(f"{name}.")}
            if handles:
                embedder = materialize(stock.get_submodule(EMBEDDERS[0]), handles, self.dtype)
                with torch.no_grad():
                    waves = stock.time_text_embed.time_proj(torch.tensor([time], dtype=torch.float32))
                    found.append(factor * embedder(waves.to(self.dtype))[0])
        return F.silu(sum(found[1:], found[0]))

    def make_rows(self, block: str) -> torch.Tensor:
        """[12, D]: shift, scale, gate of attention and of feed-forward, the picture's stream first."""
        if block not in self._rows:
            self._rows[block] = torch.cat([self._project(f"{block}.{stream}_mod.1", ROWS // 2) for stream in ("img", "txt")])
        return self._rows[block]

    def make_output(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and shift [D] of the last norm, in diffusers' order."""
        scale, shift = self._project("norm_out.linear", 2)
        return scale, shift

    def _project(self, layer: str, rows: int) -> torch.Tensor:
        weight, bias = (self._weights[f"{layer}.{part}"].load().to(self.dtype) for part in ("weight", "bias"))
        return (weight @ self.state + bias).reshape(rows, -1)


def order_heads(weights: Mapping[str, Handle], config: Mapping[str, Any]) -> dict[str, Handle]:
    """Queries and keys with first members of all pairs before second ones, and gains of their norms as `Norm` holds them.

    q . k is the same in any order of channels. A gain is w sqrt(d) where the norm is a sum and no mean; queries have the
    1 / sqrt(d) of softmax(q k^T / sqrt(d)) besides, so theirs is w.
    """
    size = config["attention_head_dim"]
    order = pair_order(size)
    rows = (torch.arange(config["num_attention_heads"])[:, None] * size + order).flatten()
    ordered: dict[str, Handle] = {}
    for block in (f"transformer_blocks.{i}.attn" for i in range(config["num_layers"])):
        for layer, norm in HEADS.items():
            if f"{block}.{layer}.weight" in weights:
                for part in ("weight", "bias"):
                    ordered[f"{block}.{layer}.{part}"] = _take(weights[f"{block}.{layer}.{part}"], rows)
                gain = _take(weights[f"{block}.{norm}.weight"], order)
                ordered[f"{block}.{norm}.weight"] = gain if layer.endswith(("to_q", "q_proj")) else make_gain(gain)
    return ordered


def _take(handle: Handle, rows: torch.Tensor) -> Handle:
    return LazyHandle(handle.shape, handle.dtype, lambda: handle.load()[rows])
