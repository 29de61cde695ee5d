"""Stock networks of a student that TwinFlow distilled, kept open and sampled as its reference samples them, whoever loaded them.

So a folder that another program quantized is drawn, and PyTorch is timed. In float32 both draw the reference's pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.nouns.student import StepPlan

Float32 = npt.NDArray[np.float32]


class TwinFlowStock(ABC):
    """Text encoder, transformer and autoencoder.

    Args:
        networks: torch modules by role, whose calls count where it is timed.
        device: by torch's name.
        dtype: of the networks' weights and arithmetic; the state between steps is float32.
    """

    def __init__(self, networks: Mapping[str, Any], device: str, dtype: torch.dtype) -> None:
        self.networks, self.device, self.dtype = networks, device, dtype

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> list[torch.Tensor]:
        """Rows [n, E] of each prompt, as the stock pipeline makes them."""

    @abstractmethod
    def sample(self, texts: Sequence[torch.Tensor], noise: Sequence[torch.Tensor], times: Sequence[float]) -> torch.Tensor:
        """Denoised states [B, C, h, w] of texts of one length and noise [B, C, h, w] for each time."""

    @abstractmethod
    def decode(self, clean: torch.Tensor) -> Float32:
        """Pictures in [0, 1], float32 [B, H, W, 3]."""

    def draw_floats(self, prompts: Sequence[str], noise: Float32, times: Sequence[float]) -> Float32:
        """Pictures in [0, 1], float32 [B, H, W, 3], of noise [steps, B, *latents]: at once where all texts have one length."""
        with torch.no_grad():
            texts = self.encode(prompts)
            placed = torch.from_numpy(noise).to(self.device)
            if len({len(text) for text in texts}) == 1:
                return self.decode(self.sample(texts, list(placed), times))
            each = (self.sample([text], list(placed[:, i : i + 1]), times) for i, text in enumerate(texts))
            return np.concatenate([self.decode(clean) for clean in each])


class WholeTwinFlow:
    """A TwinFlowStock with a bundle's times, to be timed."""

    def __init__(self, stock: TwinFlowStock, plan: StepPlan) -> None:
        self.stock, self.networks = stock, stock.networks
        self.times = tuple(plan.times[row] for row in plan.rows())

    def draw(self, prompts: Sequence[str], noise: Float32) -> npt.NDArray[np.uint8]:
        """Pictures uint8 [B, H, W, 3]."""
        pictures: npt.NDArray[np.uint8] = np.rint(self.stock.draw_floats(prompts, noise, self.times) * 255).astype(np.uint8)
        return pictures
