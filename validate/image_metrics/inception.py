"""Inception V3 as FID wants it: the TensorFlow graph of 2015 (Szegedy et al., arXiv:1512.00567), by its published weights' names.

It differs from later versions in its poolings: averages leave the border out, and the last block takes the largest. A block is a
table of branches that run side by side, their outputs joined; a branch is convolutions in a row, the last of them may be two side
by side. The last branch is a pooling. Padding keeps the size, but where a block halves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

SIDE, FEATURES = 299, 2048  # pixels that a picture is brought to; numbers that come of it
Pooling = Literal["average", "largest", "halve"]


class Convolution(NamedTuple):
    """One with batch norm and ReLU: its name, outputs, and kernel."""

    name: str
    outputs: int
    high: int = 1
    wide: int = 1


Step = tuple[Convolution, ...]  # side by side
Branch = Sequence[Step]


def chain(*convolutions: Convolution) -> Branch:
    """A branch of convolutions in a row."""
    return [(each,) for each in convolutions]


class NormalizedConvolution(nn.Module):
    """Convolution, batch norm with recorded statistics, ReLU."""

    def __init__(self, inputs: int, table: Convolution, stride: int = 1, pads: bool = True) -> None:
        super().__init__()
        padding = (table.high // 2, table.wide // 2) if pads else 0
        self.conv = nn.Conv2d(inputs, table.outputs, (table.high, table.wide), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(table.outputs, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] -> [B, outputs, h', w']."""
        return F.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches side by side.

    Args:
        inputs: channels.
        branches: in the order in which outputs are joined.
        pooling: of the last branch; "halve": with stride 2, as the last step of each other branch.
        pooled: channels of the convolution behind the pooling; 0: none.
    """

    def __init__(self, inputs: int, branches: Sequence[Branch], pooling: Pooling, pooled: int = 0) -> None:
        super().__init__()
        self.branches, self.pooling = branches, pooling
        self.width = pooled or inputs
        for branch in branches:
            width = inputs
            for step in branch:
                halves = pooling == "halve" and step is branch[-1]
                for each in step:
                    self.add_module(each.name, NormalizedConvolution(width, each, 2 if halves else 1, not halves))
                width = sum(each.outputs for each in step)
            self.width += width
        if pooled:
            self.branch_pool = NormalizedConvolution(inputs, Convolution("branch_pool", pooled))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, inputs, h, w] -> [B, width, h', w']."""
        return torch.cat([*(self._run(branch, x) for branch in self.branches), self._pool(x)], 1)

    def _run(self, branch: Branch, x: torch.Tensor) -> torch.Tensor:
        for step in branch:
            x = torch.cat([self.get_submodule(each.name)(x) for each in step], 1)
        return x

    def _pool(self, x: torch.Tensor) -> torch.Tensor:
        if self.pooling == "halve":
            return F.max_pool2d(x, 3, 2)
        largest = self.pooling == "largest"
        pooled = F.max_pool2d(x, 3, 1, 1) if largest else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        found: torch.Tensor = self.branch_pool(pooled)
        return found


def make_block_5(inputs: int, pooled: int) -> Block:
    """At 35 x 35."""
    double = chain(*(Convolution(f"branch3x3dbl_{i}", *rest) for i, rest in enumerate([(64,), (96, 3, 3), (96, 3, 3)], 1)))
    wide = chain(Convolution("branch5x5_1", 48), Convolution("branch5x5_2", 64, 5, 5))
    return Block(inputs, [chain(Convolution("branch1x1", 64)), wide, double], "average", pooled)


def make_block_6(middle: int) -> Block:
    """At 17 x 17, its kernels of 7 in one direction each; `middle`: channels between them."""
    first = [(middle,), (middle, 1, 7), (192, 7, 1)]
    second = [(middle,), (middle, 7, 1), (middle, 1, 7), (middle, 7, 1), (192, 1, 7)]
    branches = [
        chain(*(Convolution(f"{name}_{i}", *rest) for i, rest in enumerate(table, 1)))
        for name, table in (("branch7x7", first), ("branch7x7dbl", second))
    ]
    return Block(768, [chain(Convolution("branch1x1", 192)), *branches], "average", 192)


def make_block_7(inputs: int, pooling: Pooling) -> Block:
    """At 8 x 8."""

    def split(name: str) -> Step:
        return Convolution(f"{name}a", 384, 1, 3), Convolution(f"{name}b", 384, 3, 1)

    single = [(Convolution("branch3x3_1", 384),), split("branch3x3_2")]
    double = [(Convolution("branch3x3dbl_1", 448),), (Convolution("branch3x3dbl_2", 384, 3, 3),), split("branch3x3dbl_3")]
    return Block(inputs, [chain(Convolution("branch1x1", 320)), single, double], pooling, 192)


def make_halving_blocks() -> tuple[Block, Block]:
    """From 35 x 35 to 17 x 17, and from there to 8 x 8."""
    double = [(64,), (96, 3, 3), (96, 3, 3)]
    long = [(192,), (192, 1, 7), (192, 7, 1), (192, 3, 3)]
    first = [
        chain(Convolution("branch3x3", 384, 3, 3)),
        chain(*(Convolution(f"branch3x3dbl_{i}", *rest) for i, rest in enumerate(double, 1))),
    ]
    second = [
        chain(Convolution("branch3x3_1", 192), Convolution("branch3x3_2", 320, 3, 3)),
        chain(*(Convolution(f"branch7x7x3_{i}", *rest) for i, rest in enumerate(long, 1))),
    ]
    return Block(288, first, "halve"), Block(768, second, "halve")


class Inception(nn.Module):
    """Pictures -> features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = NormalizedConvolution(3, Convolution("", 32, 3, 3), 2, False)
        self.Conv2d_2a_3x3 = NormalizedConvolution(32, Convolution("", 32, 3, 3), 1, False)
        self.Conv2d_2b_3x3 = NormalizedConvolution(32, Convolution("", 64, 3, 3))
        self.Conv2d_3b_1x1 = NormalizedConvolution(64, Convolution("", 80))
        self.Conv2d_4a_3x3 = NormalizedConvolution(80, Convolution("", 192, 3, 3), 1, False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = make_block_5(192, 32), make_block_5(256, 64), make_block_5(288, 64)
        self.Mixed_6a, self.Mixed_7a = make_halving_blocks()
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = map(make_block_6, (128, 160, 160, 192))
        self.Mixed_7b, self.Mixed_7c = make_block_7(1280, "average"), make_block_7(2048, "largest")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Float [B, 3, H, W] from 0 to 255 -> [B, 2048]; brought to 299 x 299 as torchmetrics does, bilinear, antialias."""
        x = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3((x - 128) / 128)))
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2))), 3, 2)
        for block in (self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a, self.Mixed_6b, self.Mixed_6c):
            x = block(x)
        for block in (self.Mixed_6d, self.Mixed_6e, self.Mixed_7a, self.Mixed_7b, self.Mixed_7c):
            x = block(x)
        return x.mean((2, 3))
