"""Sessions over graphs that take several rows: any number goes in, and as many come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sprint_export.batches import widen_specs
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.batched import Batched


class Doubling:
    """Takes two rows and no other number."""

    description = "a double"

    def __init__(self) -> None:
        self.calls = 0

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        assert len(feeds["x"]) == 2
        assert len(feeds["step"]) == 1
        self.calls += 1
        return {"y": 2 * feeds["x"] + feeds["step"]}


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_rows_are_taken_two_at_a_time_and_the_last_is_filled_up(rows: int) -> None:
    inner, x = Doubling(), np.arange(rows, dtype=np.float32)[:, None]
    found = Batched(inner, 2, "step").run({"x": x, "step": np.array([7])})
    assert np.array_equal(found["y"], 2 * x + 7)
    assert inner.calls == (rows + 1) // 2


def test_the_step_alone_keeps_its_shape() -> None:
    wide = widen_specs((TensorSpec("x", "float32", (1, 3), ""), TensorSpec("step", "int64", (1,), "")), 4, "step")
    assert [spec.shape for spec in wide] == [(4, 3), (1,)]
