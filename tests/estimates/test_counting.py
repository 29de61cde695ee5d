"""Counted work: the right number of FLOP and bytes for networks small enough to count by hand."""

from __future__ import annotations

import torch

from sprint_export.estimates.counting import CACHED, count_network
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.weights import constant


class Small(torch.nn.Module):
    """A dense convolution, a depthwise one, a matrix product, and a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.linear = torch.nn.Linear(8, 5, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(self.dense(x)).flatten(2).transpose(1, 2)
        result: torch.Tensor = self.linear(x) + 1.0
        return result


def make_component(module: torch.nn.Module, *shape: int) -> Component:
    weights = {name: constant(torch.zeros(value.shape)) for name, value in module.state_dict().items()}
    return Component("small", module.to("meta"), weights, (TensorSpec("x", "float32", shape, ""),), ())


def test_products_are_counted_as_torch_counts_them() -> None:
    count = count_network(make_component(Small(), 1, 3, 16, 16))
    assert count.conv == 2 * (8 * 16 * 16) * (3 * 3 * 3), "the depthwise one is not among them"
    assert count.matmul == 2 * 16 * 16 * 8 * 5
    assert count.heard == 4 * (3 + 8 + 8) * 16 * 16, "inputs of the three layers"
    assert count.channels == 3 + 8 + 8
    assert (count.values, count.largest) == (3 * 8 * 9 + 8 * 9 + 8 * 5, 3 * 8 * 9)


def test_bytes_are_read_and_written_by_what_is_no_view() -> None:
    count = count_network(make_component(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Flatten()), 1, 2, 8))
    assert (count.operators, count.cached, count.moved) == (2, 3 * 4 * 16, 0), "the input is made, too"
    large = count_network(make_component(torch.nn.ReLU(), 1, CACHED))
    assert (large.cached, large.moved) == (0, 3 * 4 * CACHED)


def test_what_lives_at_once_is_what_has_users_left() -> None:
    three = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Sigmoid(), torch.nn.Tanh())
    assert count_network(make_component(three, 1, 1000)).live == 3 * 4000, "the input, one result and the next"
