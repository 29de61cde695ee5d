"""A network whose weights are too small for half precision's scales, in some rows or all; every kind of layer has one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.weights import Handle, LazyHandle, random_handle

WIDTH, SIDE, WORDS, SMALL_ROWS = 32, 6, 40, 16
SMALL = 2.0**-12
IDS = TensorSpec("ids", "int64", (1, SIDE * SIDE), "a word for each pixel")
OUT = TensorSpec("y", "float32", (1, WIDTH, SIDE * SIDE), "out")


class EveryKind(nn.Module):
    """An embedding, a Linear with and a convolution without a bias, and a Linear of ordinary weights."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.plain, self.linear = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.conv, self.biased = nn.Conv2d(WIDTH, WIDTH, 1, bias=False), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, ids: Tensor) -> Tensor:
        """[1, n] -> [1, C, h w]; each layer's small results are brought up again, or nothing could be seen."""
        x = torch.tanh(self.words(ids) / SMALL)
        x = torch.tanh(self.plain(x))
        x = torch.tanh(self.linear(x) / SMALL).transpose(1, 2).reshape(1, WIDTH, SIDE, SIDE)
        x = torch.tanh(self.conv(x).flatten(2) / SMALL).reshape(1, WIDTH, SIDE, SIDE)  # or coremltools scales the weight
        result: Tensor = self.biased(x).flatten(2) / SMALL
        return result


def make_component(scheme: str, dtype: str) -> Component:
    """All layers quantized, weights alone."""
    with torch.device("meta"):
        module = EveryKind().eval()
    weights: dict[str, Handle] = {}
    for name, value in module.state_dict().items():
        weights[name] = random_handle(name, tuple(value.shape), 0.05 if value.ndim > 1 else 0.01)
        if not name.startswith("plain"):
            weights[name] = shrink(weights[name], WIDTH if name.startswith("conv") else SMALL_ROWS)
    layers = {name: QuantizedLayer(scheme, None, 0, dtype) for name in ("words", "plain", "linear", "conv", "biased")}
    return Component("vae_decoder", module, weights, (IDS,), (OUT,), layers)


def shrink(handle: Handle, rows: int) -> Handle:
    """The first rows times SMALL, the last of them zero; the others times 16 SMALL."""
    factors = torch.full((handle.shape[0], *(1,) * (len(handle.shape) - 1)), 16 * SMALL)
    factors[:rows] = SMALL
    factors[rows - 1] = 0.0
    return LazyHandle(handle.shape, handle.dtype, lambda: handle.load() * factors)


def feeds() -> dict[str, np.ndarray]:
    """One input."""
    return {"ids": np.random.default_rng(0).integers(0, WORDS, (1, SIDE * SIDE))}
