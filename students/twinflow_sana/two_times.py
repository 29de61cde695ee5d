"""TwinFlow's time module for SANA: a velocity from time t to time t', of which the sampler asks for t' = 0 only.

    c(t, t') = E1(t) + (t - t') E2(t')        E1, E2: AdaLayerNormSingle, sinusoids of `scale` times a time in [-1, 1]

for the six rows of the blocks and for the embedded time of the output alike. A negative t is the fake trajectory's.
Source: inclusionAI/TwinFlow, src/networks/openuni/transformer_sana.py (a109a71); arXiv 2512.05150.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.models.normalization import AdaLayerNormSingle

FIRST, SECOND = "time_embed.", "time_embed_2."  # prefixes of a checkpoint's tensors
HELD = "time_embed.second."  # of the same in a stock SanaTransformer2DModel that holds TwoTimes


class TwoTimes(AdaLayerNormSingle):  # type: ignore[misc]
    """In the place of SanaTransformer2DModel.time_embed; its `timestep` is [B, 2]: t and t'."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__(width)
        self.second, self.scale = AdaLayerNormSingle(width), scale

    def forward(self, timestep: torch.Tensor, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """(six rows [B, 6 D], embedded time [B, D])."""
        t, target = timestep.unbind(1)
        rows, embedded = super().forward(self.scale * t, **named)
        added, added_embedded = self.second(self.scale * target, **named)
        ahead = (t - target)[:, None].to(rows.dtype)
        return rows + ahead * added, embedded + ahead * added_embedded


def rename_second(weights: Mapping[str, torch.Tensor], is_checkpoint: bool) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by the names of a model that holds TwoTimes; or, where they are not a checkpoint's, back."""
    old, new = (SECOND, HELD) if is_checkpoint else (HELD, SECOND)
    return {new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in weights.items()}
