"""Traced operators of networks small enough to count by hand, and the same in a target's types."""

from __future__ import annotations

import torch

from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.planning.graph import list_kernels
from sprint_export.planning.operators import Trace, trace_network
from sprint_export.planning.rounding import lay_out
from sprint_export.weights import constant


class Small(torch.nn.Module):
    """Two products of one input, a norm and a table of words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(100, 16)
        self.first = torch.nn.Linear(16, 32, bias=False)
        self.second = torch.nn.Linear(16, 32, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        result: torch.Tensor = torch.relu(self.first(x)) + self.second(x)
        return result


def trace() -> Trace:
    module = Small()
    weights = {name: constant(torch.zeros(value.shape)) for name, value in module.state_dict().items()}
    return trace_network(Component("small", module.to("meta"), weights, (TensorSpec("ids", "int64", (1, 8), ""),), ()))


def test_products_are_named_by_their_layers_and_count_as_torch_counts() -> None:
    flop = {each.name: each.flop for each in trace().operators if each.flop}
    assert flop == {"first": 2 * 8 * 16 * 32, "second": 2 * 8 * 16 * 32}


def test_of_a_table_of_words_only_the_rows_that_come_out_are_read() -> None:
    words = next(each for each in trace().operators if each.name == "words")
    assert words.weights == {"words.weight": 8 * 16}


def test_sizes_are_those_of_the_graph_s_type() -> None:
    for dtype, size in (("fp32", 4), ("bf16", 2)):
        works, _ = list_kernels(lay_out(trace(), {}, dtype, {"16-bit", "fp32"}))
        first = next(work for work in works if work.name == "first")
        assert first.bytes == size * (8 * 16 + 16 * 32 + 8 * 32), "input, weight, output with the activation in it"
        assert first.dtype == {"fp32": "fp32", "bf16": "16-bit"}[dtype]


def quantized(scheme: str) -> QuantizedLayer:
    return QuantizedLayer(scheme, None, 0, "fp32", 0)


def test_layers_that_read_one_value_in_8_bits_share_its_rounding() -> None:
    layers = {"first": quantized("w8a8"), "second": quantized("w8a8")}
    graph = lay_out(trace(), layers, "bf16", {"16-bit", "int8"})
    assert sum(each.name.endswith("(its input rounded)") for each in graph.operations) == 1
    works, _ = list_kernels(graph)
    assert {work.name: work.dtype for work in works if work.flop} == {"first": "int8", "second": "int8"}
    words = next(work for work in works if not work.flop)
    assert words.bytes == 8 * 16 * 2 + 8 * 2 + 8 * 16, "rows and ids read, written in 8 bits alone"


def test_a_device_without_8_bit_units_multiplies_in_the_graph_s_type() -> None:
    works, _ = list_kernels(lay_out(trace(), {"first": quantized("w8a8")}, "bf16", {"16-bit"}))
    assert next(work.dtype for work in works if work.name == "first") == "16-bit"


def test_weights_of_few_bits_are_read_as_they_are_stored() -> None:
    plain, _ = list_kernels(lay_out(trace(), {}, "bf16", {"16-bit"}))
    stored, _ = list_kernels(lay_out(trace(), {"first": quantized("w8a16")}, "bf16", {"16-bit"}))
    read = {name: next(work.bytes for work in works if work.name == "first") for name, works in (("16", plain), ("8", stored))}
    assert read["16"] - read["8"] == 16 * 32 - 32 * 2, "a byte less a value, and a scale of two bytes a row"
