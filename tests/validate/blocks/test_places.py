"""Which values may be a block's output: found by where weights are read, whatever nodes are called."""

from __future__ import annotations

import pytest

from sprint_export.runtimes.inner_values import JoinedGraph
from sprint_export.validate.blocks.places import Places
from tests.validate.blocks.inner_graphs import read_graph

RESIDUAL = """
    q = x blocks.0.attn.weight
    a = x q
    f = a blocks.0.ff.weight.int8
    h = a f
    q1 = h blocks.1.attn.weight
    h1 = h q1
    y = h1 out.weight
"""
WEIGHTS = ("blocks.0.attn.weight", "blocks.0.ff.weight", "blocks.1.attn.weight", "out.weight")
BLOCKS = ("blocks.0", "blocks.1", "out")


def test_a_residual_block_ends_in_its_last_sum() -> None:
    places = Places(read_graph(RESIDUAL, "y"), WEIGHTS, BLOCKS)
    assert places.find_candidates("blocks.0") == ["f", "h"], "behind the last weight: the branch, and the sum"
    assert places.find_candidates("blocks.1") == ["q1", "h1"]
    assert places.find_candidates("out") == ["y"]


def test_a_sum_inside_a_block_is_none() -> None:
    assert "a" not in Places(read_graph(RESIDUAL, "y"), WEIGHTS, BLOCKS).find_candidates("blocks.0")


def test_what_stands_behind_the_last_weight_is_a_candidate() -> None:
    """A shortcut around a convolution has no weight of its own."""
    graph = read_graph("c = x up.0.conv.weight\ns = x\nh = c s\nr = h\ny = r up.1.conv.weight", "y")
    places = Places(graph, ("up.0.conv.weight", "up.1.conv.weight"), ("up.0", "up.1"))
    assert places.find_candidates("up.0") == ["c", "h", "r"]


def test_two_streams_of_one_block_have_an_end_each() -> None:
    graph = read_graph(
        """
        m = x t blocks.0.mix.weight
        i = x m blocks.0.image.weight
        j = t m blocks.0.text.weight
        y = i j out.weight
        """,
        "y",
        "x t",
    )
    weights = ("blocks.0.mix.weight", "blocks.0.image.weight", "blocks.0.text.weight", "out.weight")
    assert Places(graph, weights, ("blocks.0", "out")).find_candidates("blocks.0") == ["i", "j"]


def test_the_first_block_is_not_the_tenth() -> None:
    text = "a = x layers.1.w.weight\nb = a layers.10.w.weight"
    places = Places(read_graph(text, "b"), ("layers.1.w.weight", "layers.10.w.weight"), ("layers.1", "layers.10"))
    assert places.find_candidates("layers.1") == ["a"]
    assert places.find_candidates("layers.10") == ["b"]


@pytest.mark.parametrize("spelled", ["p_blocks_0_attn_weight_to_fp16.x", "blocks.0.attn.weight.transposed.int8:0"])
def test_a_weight_is_known_however_a_format_spells_it(spelled: str) -> None:
    graph = read_graph(f"a = x {spelled}\ny = a out.weight", "y")
    assert Places(graph, ("blocks.0.attn.weight", "out.weight"), ("blocks.0", "out")).find_candidates("blocks.0") == ["a"]


def test_a_weight_is_followed_through_what_makes_it_from_constants() -> None:
    graph = read_graph("w = blocks.0.attn.weight.int8 blocks.0.attn.weight.scale\na = x w\ny = a out.weight", "y")
    assert Places(graph, ("blocks.0.attn.weight", "out.weight"), ("blocks.0", "out")).find_candidates("blocks.0") == ["a"]


def test_a_block_that_gives_the_output_too_has_its_place() -> None:
    """A ControlNet's residuals: each block is read by the next, and by what the network gives."""
    graph = read_graph("a = x blocks.0.w.weight\nb = a blocks.1.w.weight\nr = a b out.weight", "r")
    weights = ("blocks.0.w.weight", "blocks.1.w.weight", "out.weight")
    places = Places(graph, weights, ("blocks.0", "blocks.1", "out"))
    assert places.find_candidates("blocks.0") == ["a"]


def test_a_network_in_parts_is_one_graph() -> None:
    first = read_graph("a = x blocks.0.w.weight\nh = x a", "h")
    second = read_graph("a = h blocks.1.w.weight\ny = h a", "y", "h")
    joined = JoinedGraph([first, second])
    places = Places(joined, ("blocks.0.w.weight", "blocks.1.w.weight"), ("blocks.0", "blocks.1"))
    assert places.find_candidates("blocks.0") == ["0:a", "0:h"]
    assert places.find_candidates("blocks.1") == ["1:a", "1:y"]
