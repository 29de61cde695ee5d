"""Kernels of a graph: what joins what, the bytes between them, and what lives at once."""

from __future__ import annotations

import pytest

from sprint_export.planning.graph import Graph, Kind, Operation, list_kernels


def make(name: str, kind: Kind, reads: dict[str, float], writes: dict[str, float], flop: float = 0.0) -> Operation:
    return Operation(name, kind, reads, writes, flop, "16-bit" if flop else "")


def fuse(
    *operations: Operation, weights: tuple[str, ...] = ("w",), outputs: tuple[str, ...] = ("out",)
) -> list[tuple[str, float]]:
    works, _ = list_kernels(Graph(operations, frozenset(weights), frozenset(outputs)))
    return [(work.name, work.bytes) for work in works]


def test_what_follows_a_product_value_by_value_is_part_of_it() -> None:
    assert fuse(
        make("product", "product", {"x": 10, "w": 5}, {"a": 20}, 100),
        make("activation", "pointwise", {"a": 20}, {"b": 20}),
        make("sum", "pointwise", {"b": 20, "x": 10}, {"out": 20}),
    ) == [("product", 10 + 5 + 20)], "a and b are never written, x is read once"


def test_a_reduction_begins_a_kernel_that_takes_what_follows() -> None:
    assert fuse(
        make("product", "product", {"x": 10, "w": 5}, {"a": 20}, 100),
        make("mean", "reduction", {"a": 20}, {"m": 1}),
        make("norm", "pointwise", {"a": 20, "m": 1}, {"out": 20}),
    ) == [("product", 10 + 5 + 20), ("mean", 20 + 20)]


def test_what_is_larger_or_smaller_than_a_product_does_not_join_it() -> None:
    assert fuse(
        make("product", "product", {"x": 10, "w": 5}, {"a": 20}, 100),
        make("upsample", "pointwise", {"a": 20}, {"out": 80}),
    ) == [("product", 35), ("upsample", 100)]


def test_a_value_that_a_later_kernel_reads_is_written() -> None:
    assert fuse(
        make("one", "product", {"x": 10, "w": 5}, {"a": 20}, 100),
        make("two", "product", {"a": 20, "w": 5}, {"out": 20}, 100),
    ) == [("one", 35), ("two", 45)]


def test_an_operation_joins_the_last_kernel_among_those_that_made_its_inputs() -> None:
    assert fuse(
        make("one", "product", {"x": 10, "w": 5}, {"a": 20}, 100),
        make("two", "product", {"x": 10, "w": 5}, {"b": 20}, 100),
        make("sum", "pointwise", {"a": 20, "b": 20}, {"out": 20}),
    ) == [("one", 35), ("two", 10 + 5 + 20 + 20)]


def attention(readers: int) -> tuple[Operation, ...]:
    """Scores, softmax and values; with more than one reader of the softmax it must be written."""
    extra = (make("look", "reduction", {"p": 400}, {"seen": 1}),) if readers > 1 else ()
    return (
        make("scores", "product", {"q": 10, "k": 10}, {"s": 400}, 100),
        make("scale", "pointwise", {"s": 400}, {"t": 400}),
        make("softmax", "softmax", {"t": 400}, {"p": 400}),
        make("values", "product", {"p": 400, "v": 10}, {"out": 10}, 100),
        *extra,
    )


def test_an_attention_is_one_kernel_that_never_writes_its_scores() -> None:
    works, _ = list_kernels(Graph(attention(1), frozenset(), frozenset({"out"})))
    assert [(work.flop, work.bytes) for work in works] == [(200, 40)]


def test_scores_that_another_reads_keep_an_attention_apart() -> None:
    works, _ = list_kernels(Graph(attention(2), frozenset(), frozenset({"out", "seen"})))
    assert len(works) > 1
    assert sum(work.bytes for work in works) > 400


def test_values_live_from_their_kernel_to_the_last_that_reads_them() -> None:
    _, live = list_kernels(
        Graph(
            (
                make("one", "product", {"x": 10, "w": 5}, {"a": 20}, 1),
                make("two", "product", {"a": 20, "w": 5}, {"b": 30}, 1),
                make("three", "product", {"b": 30, "w": 5}, {"out": 7}, 1),
            ),
            frozenset({"w"}),
            frozenset({"out"}),
        )
    )
    assert live == 50, "a and b together; a is gone when the third writes"


@pytest.mark.parametrize("kind", ["pointwise", "reduction"])
def test_a_first_operation_without_a_kernel_before_begins_one(kind: Kind) -> None:
    assert fuse(make("first", kind, {"x": 10}, {"out": 10})) == [("first", 20)]
