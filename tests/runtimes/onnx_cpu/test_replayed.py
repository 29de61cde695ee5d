"""Runs that are recorded and replayed: what is fed is copied to addresses that stay (a stand-in for CUDA: fake_ort.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sprint_export.errors import MachineError
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.onnx_cpu.runtime import RUNTIME
from tests.runtimes.onnx_cpu.fake_ort import FakeOrt
from tests.runtimes.onnx_cpu.test_providers import CUDA, ONES, PLAIN, X, Y, install


def test_inputs_are_copied_to_where_they_were_bound_and_outputs_read_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = install(monkeypatch, FakeOrt([CUDA], placed={CUDA: ["Add"]}))
    runtime = RUNTIME.on("cuda-graph")
    session = runtime.open_session(tmp_path / "model.onnx", (X,), (Y,))
    assert ort.asked == [(CUDA, {"use_tf32": "0", "enable_cuda_graph": "1"}), PLAIN]
    first = session.run(ONES)["y"]
    binding = ort.opened[0].binding
    second = session.run({"x": 3 * ONES["x"]})["y"]
    np.testing.assert_array_equal(first, 2)
    np.testing.assert_array_equal(second, 6)
    assert ort.opened[0].binding is binding, "bound once"
    assert (binding.inputs["x"].updates, binding.inputs["x"].device) == (1, "cuda")
    assert session.description == "ONNX Runtime 1.32.0 cuda-graph, every node"


def test_whether_launches_are_replayed_is_a_providers_own() -> None:
    assert RUNTIME.on("cuda-graph").replays is True
    assert RUNTIME.on("cuda").replays is False
    assert RUNTIME.on("cpu").replays is None


def test_a_graph_of_any_size_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeOrt([CUDA]))
    free = TensorSpec("y", "float32", (2, "height"), "")
    with pytest.raises(MachineError, match=r"cuda-graph: .* takes any size, and a recorded run has one; use cuda"):
        RUNTIME.on("cuda-graph").open_session(tmp_path / "model.onnx", (X,), (free,))
