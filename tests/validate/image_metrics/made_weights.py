"""Weights made by a rule, in the published forms: what metrics are tried with where the real ones are not at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

SIDE, COUNT = 64, 5


def make_state(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """A state_dict for a module: normal weights of variance 2 / inputs, small biases; the same on every machine."""
    rng = np.random.default_rng(seed)
    state = {}
    for name, tensor in module.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
            continue
        values = rng.standard_normal(tuple(tensor.shape))
        if tensor.ndim > 1:
            values *= (2 / np.prod(tensor.shape[1:])) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            values = 1 + 0.1 * np.abs(values)
        else:
            values *= 0.1
        state[name] = torch.from_numpy(values.astype(np.float32))
    return state


def make_pictures(seed: int = 7, count: int = COUNT, side: int = SIDE) -> tuple[Any, Any]:
    """Two sets of pictures uint8 [B, H, W, 3]: smooth ones, and the same with a noise that grows from picture to picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = rng.uniform(1, 6, (count, 3, 2, 1, 1))
    smooth = 127.5 + 100 * np.sin(2 * np.pi * (waves[:, :, 0] * x + waves[:, :, 1] * y))
    noise = rng.standard_normal(smooth.shape) * (4 * np.arange(count).reshape(-1, 1, 1, 1) + 1)
    first, second = (np.clip(np.rint(each), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1) for each in (smooth, smooth + noise))
    return np.ascontiguousarray(second), np.ascontiguousarray(first)


def save_made(folder: Path, file: str, module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Write such weights under a published name; they are returned."""
    folder.mkdir(parents=True, exist_ok=True)
    state = make_state(module, seed)
    torch.save(state, folder / file)
    return state


def make_features(count: int = 300, width: int = 48) -> tuple[Any, Any]:
    """Two sets of features float64 [B, F], correlated and apart."""
    rng = np.random.default_rng(11)
    mixing = rng.standard_normal((width, width))
    ours = rng.standard_normal((count, width)) @ mixing
    return ours, 1.1 * ours + rng.standard_normal((count, width)) + 0.3
