"""What every training stage shares: the budget clock, learning-rate shape, averaged weights, fresh scenes."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.students.sprint_tiny.world import Scene, all_scenes, render_scene, write_caption

LATENT_CHANNELS, LATENT_SIZE = 16, 8
TEXT_WIDTH = 128


class Log:
    """Prints a line with the elapsed seconds and appends it to the log that is committed beside the weights."""

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.monotonic()

    def __call__(self, text: str) -> None:
        line = f"[{time.monotonic() - self.start:7.1f} s] {text}"
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")


def training_scenes() -> tuple[list[Scene], list[Scene]]:
    """Scenes open to training, with one shape and with two; the held-out eighth is left out."""
    scenes = [scene for scene in all_scenes() if not scene.is_held_out()]
    return [s for s in scenes if len(s.shapes) == 1], [s for s in scenes if len(s.shapes) == 2]


def draw_scenes(count: int, rng: np.random.Generator) -> list[Scene]:
    """`count` training scenes, a quarter of them with one shape."""
    ones, twos = training_scenes()
    pools = [ones if rng.random() < 0.25 else twos for _ in range(count)]
    return [pool[rng.integers(len(pool))] for pool in pools]


def to_tensor(pictures: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    """Pictures uint8 [64, 64, 3] as float32 [N, 3, 64, 64] in [-1, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_examples(count: int, rng: np.random.Generator) -> tuple[list[Scene], list[str], torch.Tensor]:
    """`count` scenes, their captions, and pictures float32 [N, 3, 64, 64] in [-1, 1]."""
    scenes = draw_scenes(count, rng)
    pictures = [render_scene(scene, rng) for scene in scenes]
    captions = [write_caption(scene, rng) for scene in scenes]
    return scenes, captions, to_tensor(pictures)


def steps_within(seconds: float, rate: float, warm_up: int, optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, float]]:
    """Yield (step, share of the time used) until the time is up, setting a warm-up then cosine learning rate."""
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / seconds) < 1:
        decay = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warm_up) * decay
        yield step, share
        step += 1


class Average:
    """Exponential moving average of a module's parameters; `module` is what is evaluated and shipped."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.module: Any = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, source: torch.nn.Module, step: int) -> None:
        """Move towards `source`; early steps move faster so that the start does not linger."""
        decay = min(self.decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(self.module.parameters()), list(source.parameters()), 1 - decay)


def take_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Average, loss: torch.Tensor, step: int) -> None:
    """One update with gradients clipped to norm 1, and the average after it."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    average.update(model, step)
