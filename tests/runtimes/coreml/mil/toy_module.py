"""A small module with what departs easily: attention with sizes that coincide, a norm by hand, a GELU in its tanh form."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Toy(nn.Module):
    """[1, 16, 32] -> [1, 16, 32]; 16 heads over 16 tokens, so that a wrong permutation keeps all shapes."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.norm = nn.LayerNorm(32)
            self.query, self.key, self.value, self.out = (nn.Linear(32, 32) for _ in range(4))
            self.gain = nn.Parameter(1 + 0.1 * torch.randn(32))
            self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        query, key, value = (layer(h).view(1, 16, 16, 2).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = torch.softmax(query @ key.transpose(-1, -2) * 0.7, dim=-1) @ value
        x = x + self.out(mixed.transpose(1, 2).reshape(1, 16, 32))
        x = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6) * self.gain
        return x.add(self.down(F.gelu(3 * self.up(x), approximate="tanh")))


def draw_input() -> Tensor:
    """The same input each time."""
    return torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(1))
