"""The rules of attentions over graphs of several rows: they fire as often, and each row comes out as without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sprint_export.batches import widen_specs
from sprint_export.export.to_onnx.rule import apply_rules, load_rule
from sprint_export.export.to_onnx.writer import make_graph, write_graph
from sprint_export.nouns.student import Component, Student
from tests.export.to_onnx.graphs import run_onnx
from tests.export.to_onnx.rules.before_after import make_noise_feeds
from tests.made_student import relative_error

ROWS = 3
TOLERANCE = 5e-6  # relative, float32
CHAINS = [("masked_keys", "cross_attention", "linear_attention_products"), ("linear_attention", "cross_attention")]


@pytest.fixture
def wide(tiny_special: Student) -> Component:
    """A network of three rows."""
    component, step = tiny_special.components["transformer"], tiny_special.chain.names.step
    inputs, outputs = (widen_specs(specs, ROWS, step) for specs in (component.inputs, component.outputs))
    return replace(component, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("names", CHAINS, ids="-".join)
def test_each_row_is_what_it_was(names: tuple[str, ...], wide: Component, tmp_path: Path) -> None:
    feeds = make_noise_feeds(wide)
    feeds["prompt_mask"][1, 30:], feeds["prompt_mask"][2] = 0, 1  # rows of several lengths
    write_graph(make_graph(wide, "fp32"), tmp_path / "before" / "model.onnx")
    graph = make_graph(wide, "fp32")
    assert apply_rules(graph, names) == {name: load_rule(name).expected(wide) for name in names}
    write_graph(graph, tmp_path / "after" / "model.onnx")
    before, after = (run_onnx(tmp_path / side / "model.onnx", feeds) for side in ("before", "after"))
    assert len(after) == ROWS
    assert not np.array_equal(after[0], after[1])
    assert relative_error(after, before) <= TOLERANCE
