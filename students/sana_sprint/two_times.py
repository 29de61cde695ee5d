"""A second time embedder, as TwinFlow gives it to SANA: velocities from time t towards time t'; samplers ask for t' = 0 alone.

    c(t, t') = E1(t) + (t - t') E2(t')        E1, E2: AdaLayerNormSingle, sinusoids of `scale` times a time in [-1, 1]

for the six rows of the blocks and for the embedded time of the output alike. A negative t is the fake trajectory's, in training.
Source: inclusionAI/TwinFlow, src/networks/openuni/transformer_sana.py (a109a71); arXiv 2512.05150.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from diffusers.models.normalization import AdaLayerNormSingle

SECOND = "time_embed_2."  # how a checkpoint's tensors of E2 begin
TIMES = "time_embed."
HELD = f"{TIMES}second."  # the same in a stock SanaTransformer2DModel whose time_embed is TwoTimes
Value = TypeVar("Value")


class TwoTimes(AdaLayerNormSingle):  # type: ignore[misc]
    """In the place of SanaTransformer2DModel.time_embed; guidance, which such a network does not embed, is not looked at."""

    def __init__(self, width: int, scale: float) -> None:
        super().__init__(width)
        self.second, self.scale = AdaLayerNormSingle(width), scale

    def forward(self, timestep: torch.Tensor, guidance: object = None, **named: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """t and t' [B, 2], or t [B] towards 0 -> (six rows [B, 6 D], embedded time [B, D])."""
        t, target = timestep.unbind(1) if timestep.ndim == 2 else (timestep, torch.zeros_like(timestep))
        rows, embedded = super().forward(self.scale * t, **named)
        added, added_embedded = self.second(self.scale * target, **named)
        ahead = (t - target)[:, None].to(rows.dtype)
        return rows + ahead * added, embedded + ahead * added_embedded


def embed_two_times(network: torch.nn.Module, config: Mapping[str, Any]) -> torch.nn.Module:
    """A stock SanaTransformer2DModel, with TwoTimes in the place of its time embedding; `timestep_scale` is read here."""
    with torch.device(next(network.parameters()).device):
        times = TwoTimes(config["num_attention_heads"] * config["attention_head_dim"], config["timestep_scale"])
    network.time_embed = times.eval()
    return network


def rename_second(weights: Mapping[str, Value], old: str = SECOND, new: str = HELD) -> dict[str, Value]:
    """A checkpoint's tensors by the names of a model that holds TwoTimes."""
    return {new + name.removeprefix(old) if name.startswith(old) else name: value for name, value in weights.items()}
