"""Blocks are the entries of a network's lists, and what has weights beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.validate.blocks.torch_side import list_shapes
from sprint_export.validate.blocks.tree import is_entry, list_blocks


class Pair(nn.Module):
    """Gives two streams, runs `twice` two times, and calls a part of `entry` without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Module()
        self.entry.proj = nn.Linear(4, 4)
        self.twice = nn.Linear(4, 4)
        self.stages = nn.ModuleList([nn.Sequential(Block(), Block()), nn.Sequential(), Streams()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, N, 4] -> the same."""
        proj: Any = self.entry.proj
        x = self.twice(self.twice(proj(x)))
        for stage in list(self.stages)[:2]:
            x = stage(x)
        one, other = self.stages[2](x)
        return torch.as_tensor(one + other)


class Block(nn.Module):
    """[B, N, 4] -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A residual."""
        return x + torch.as_tensor(self.linear(x))


class Streams(nn.Module):
    """[B, N, 4] -> two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both."""
        return self.one(x), self.other(x)


def test_blocks_come_from_the_module_tree() -> None:
    blocks = list_blocks(Pair())
    assert blocks == ("entry", "twice", "stages.0.0", "stages.0.1", "stages.2")
    assert [is_entry(Pair(), block) for block in blocks] == [False, False, True, True, True]


def test_what_is_compared_runs_once_and_is_named_in_its_order() -> None:
    with torch.device("meta"):
        network = Pair()
    spec = TensorSpec("x", "float32", (1, 3, 4), "")
    feeds = {"x": np.zeros((1, 3, 4), np.float32)}
    shapes = list_shapes(Component("pair", network, {}, (spec,), (spec,)), feeds, list_blocks(network))
    assert list(shapes) == ["entry.proj", "stages.0.0", "stages.0.1", "stages.2[0]", "stages.2[1]"]
    assert set(shapes.values()) == {(1, 3, 4)}
