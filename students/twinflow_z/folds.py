"""TwinFlow-Z's transformer specialized: what its times make constant, and what rotations and half precision want of weights.

    temb(s) = T1(1000 (1 - s)) + (1 - s) T2(-1000 (1 - s))           the TwinFlow wrapper's formula with its second time at 0
    scale, gate, scale', gate' = W temb + b       of each block;     scale'' = W silu(temb) + b of the last layer
One time. A norm's gain takes what multiplies its output, and LayerNorm's scale goes into the columns of the layer behind it:
    norm1(x) (1 + scale)    = x (w1 (1 + scale)) / rms(x)            tanh(gate) norm2(y) = y (w2 tanh(gate)) / rms(y)
    L(n(x) (1 + scale''))   = (L diag(1 + scale'')) n(x)
More times: the same gains are rows of a table, gathered by the step. Either way T1, T2 and every adaLN layer are gone.
The rest holds for any number of steps: channels of queries and keys in the order that `rotate` wants, 1 / sqrt(d) with the
queries, and R and P of z_image_blocks.py. All is exact; in float64 in tests/students/twinflow_z/test_folds.py.
Weights stay lazy: a gain that is pulled loads the adaLN layer of its block, and the block's four gains are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch

from sprint_export.nouns.student import Component
from sprint_export.students.networks.qwen3 import divide, make_gain
from sprint_export.students.networks.z_image_blocks import NORMS, PRODUCT, RESIDUAL, pair_order
from sprint_export.weights import Handle, LazyHandle, constant, materialize, widen_dtype

TIME_SCALE = 1000.0
RANGES = (1.0, 1 / RESIDUAL, 1.0, 1 / RESIDUAL)  # of the gains of NORMS: two of them write to the residual stream
NOTES = (
    "rotations: real-valued, heads in halves",
    "range: residual stream and products scaled down, norms compensated",
)
Config = Mapping[str, Any]
Weights = Mapping[str, Handle]


class Modulation:
    """What a time makes of the adaLN layers.

    Args:
        component: the stock transformer, with TwinFlow's second time embedder or, where a LoRA made the student, without.
    """

    def __init__(self, component: Component) -> None:
        self.component, self.weights = component, component.weights
        self.dtype = widen_dtype(self.weights["t_embedder.mlp.0.weight"].dtype)
        self.embed, self.gains = cache(self._embed), cache(self._gains)

    def _embed(self, s: float) -> torch.Tensor:
        """temb(s) [1, 256]."""
        early = 1.0 - s
        total = self._run("t_embedder", TIME_SCALE * early)
        if any(name.startswith("t_embedder_2.") for name in self.weights):
            total = total + early * self._run("t_embedder_2", -TIME_SCALE * early)
        return total

    def _run(self, name: str, t: float) -> torch.Tensor:
        own = {key.removeprefix(f"{name}."): value for key, value in self.weights.items() if key.startswith(f"{name}.")}
        module = materialize(self.component.module.get_submodule(name), own, self.dtype)
        with torch.no_grad():
            result: torch.Tensor = module(torch.tensor([t], dtype=torch.float32))
        return result

    def _gains(self, block: str, s: float) -> torch.Tensor:
        """[4, D]: of a block's NORMS."""
        scale, gate, inner_scale, inner_gate = self._project(f"{block}.adaLN_modulation.0", self.embed(s)).chunk(4)
        return load_gains(self.weights, block, torch.stack([1 + scale, gate.tanh(), 1 + inner_scale, inner_gate.tanh()]))

    def scale_last(self, layer: str, s: float) -> torch.Tensor:
        """[D]: 1 + scale''."""
        return 1 + self._project(f"{layer}.adaLN_modulation.1", torch.nn.functional.silu(self.embed(s)))

    def _project(self, layer: str, x: torch.Tensor) -> torch.Tensor:
        weight, bias = (self.weights[f"{layer}.{name}"].load().to(self.dtype) for name in ("weight", "bias"))
        return torch.nn.functional.linear(x, weight, bias)[0]


def load_gains(weights: Weights, block: str, factors: torch.Tensor | float = 1.0) -> torch.Tensor:
    """The gains [4, D] of a block's NORMS times factors [4, D], with the range and the sqrt(D) of a sum."""
    own = torch.stack([weights[f"{block}.{norm}.weight"].load() for norm in NORMS])
    ranges = torch.tensor(RANGES, dtype=torch.float64)[:, None] * math.sqrt(own.shape[1])
    dtype = widen_dtype(own.dtype)
    return own.to(dtype) * factors * ranges.to(dtype)


def fold_transformer(component: Component, config: Config, times: tuple[float, ...]) -> tuple[dict[str, Handle], tuple[str, ...]]:
    """The weights of OneStepZImage but for its tables of rotations, and a note per rule that says what it did."""
    modulation, weights, width = Modulation(component), component.weights, config["dim"]
    blocks = [f"noise_refiner.{i}" for i in range(config["n_refiner_layers"])] + [
        f"layers.{i}" for i in range(config["n_layers"])
    ]
    patch = f"{config['all_patch_size'][0]}-{config['all_f_patch_size'][0]}"
    last = f"all_final_layer.{patch}"
    folded = _divide(weights, RESIDUAL, "x_pad_token", f"all_x_embedder.{patch}.weight", f"all_x_embedder.{patch}.bias")
    folded |= {name: weights[name] for name in (f"{last}.linear.weight", f"{last}.linear.bias")}
    folded["times"] = constant(torch.tensor(times, dtype=modulation.dtype))
    for block in blocks:
        folded |= fold_block(weights, block, config)
    if len(times) > 1:

        def tabulate() -> torch.Tensor:
            rows = [[*(modulation.gains(block, s) for block in blocks), modulation.scale_last(last, s)[None]] for s in times]
            return torch.stack([torch.cat(row) for row in rows])

        folded["gains"] = LazyHandle((len(times), 4 * len(blocks) + 1, width), modulation.dtype, tabulate)
        return folded, (f"time path: {len(times)} tables of gains gathered by step (a fold serves one step only)", *NOTES)
    for block in blocks:
        folded |= _name_gains(block, width, modulation.dtype, lambda block=block: modulation.gains(block, times[0]))  # type: ignore[misc]
    folded[f"{last}.linear.weight"] = _scale_columns(
        weights[f"{last}.linear.weight"], lambda: modulation.scale_last(last, times[0])
    )
    return folded, (f"time path: what {len(blocks) + 1} adaLN layers made is in {4 * len(blocks)} gains and 1 layer", *NOTES)


def fold_refiner(weights: Weights, config: Config) -> dict[str, Handle]:
    """The weights of TextRefiner but for its tables of rotations; it knows no time."""
    folded = _divide(weights, RESIDUAL, "cap_pad_token", "cap_embedder.1.weight", "cap_embedder.1.bias")
    folded["cap_embedder.0.weight"] = make_gain(weights["cap_embedder.0.weight"])
    for block in (f"context_refiner.{i}" for i in range(config["n_refiner_layers"])):
        folded |= fold_block(weights, block, config)
        dtype = widen_dtype(weights[f"{block}.{NORMS[0]}.weight"].dtype)
        folded |= _name_gains(block, config["dim"], dtype, lambda block=block: load_gains(weights, block))  # type: ignore[misc]
    return folded


def fold_block(weights: Weights, block: str, config: Config) -> dict[str, Handle]:
    """A block's matmuls, and the norms of its heads; not the four norms of width D."""
    heads, size = config["n_heads"], config["dim"] // config["n_heads"]
    order = (torch.arange(heads)[:, None] * size + pair_order(size)).flatten()
    folded = {
        f"{block}.{layer}.weight": weights[f"{block}.{layer}.weight"]
        for layer in ("attention.to_out.0", "feed_forward.w1", "feed_forward.w2")
    }
    for part, scale in (("q", size**-0.5), ("k", 1.0)):
        matmul, norm = f"{block}.attention.to_{part}.weight", f"{block}.attention.norm_{part}.weight"
        folded[matmul] = _reorder(weights[matmul], order, 1.0 if config["qk_norm"] else scale)
        if config["qk_norm"]:
            folded[norm] = _reorder(weights[norm], pair_order(size), scale * math.sqrt(size))
    return folded | _divide(weights, PRODUCT, f"{block}.attention.to_v.weight", f"{block}.feed_forward.w3.weight")


def _divide(weights: Weights, power: float, *names: str) -> dict[str, Handle]:
    """These weights divided by a power of two, which their own type holds."""
    return {name: divide(weights[name], power) for name in names}


def _reorder(handle: Handle, order: torch.Tensor, factor: float) -> Handle:
    """Rows in another order, all times a factor."""
    dtype = handle.dtype if factor == 1.0 else widen_dtype(handle.dtype)
    return LazyHandle(handle.shape, dtype, lambda: handle.load()[order].to(dtype) * factor)


def _scale_columns(handle: Handle, scale: Callable[[], torch.Tensor]) -> Handle:
    dtype = widen_dtype(handle.dtype)
    return LazyHandle(handle.shape, dtype, lambda: handle.load().to(dtype) * scale())


def _name_gains(block: str, width: int, dtype: torch.dtype, load: Callable[[], torch.Tensor]) -> dict[str, Handle]:
    """A block's four gains, each under its norm's name."""
    return {
        f"{block}.{norm}.weight": LazyHandle((width,), dtype, lambda i=i: load()[i])  # type: ignore[misc]
        for i, norm in enumerate(NORMS)
    }
