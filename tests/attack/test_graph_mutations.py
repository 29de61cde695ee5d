"""Altered graphs under what reads them here before any runtime does: weights, memory, priced operations."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import onnx
import pytest

from sprint_export.errors import BundleError
from sprint_export.export.graph_memory import count_live
from sprint_export.planning.onnx_graph import read_graph
from sprint_export.runtimes.onnx_cpu.stored import list_onnx_tensors
from tests.attack.graph_mutations import alter_graph

COUNT = 40


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product and a sum; the weight lies beside the graph, as an exporter leaves it."""
    folder = tmp_path_factory.mktemp("graph") / "transformer"
    folder.mkdir()
    weight, bias = np.ones((64, 32), np.float32), np.ones(32, np.int8)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "layer.weight"], ["y"]),
        onnx.helper.make_node("DequantizeLinear", ["layer.bias", "scale"], ["b"]),
        onnx.helper.make_node("Add", ["y", "b"], ["z"]),
    ]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, n]) for name, n in (("x", 64), ("z", 32))]
    named = {"layer.weight": weight, "layer.bias": bias, "scale": np.float32(0.5)}
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in named.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", values[:1], values[1:], tensors))
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data", size_threshold=16)
    return folder


def test_graphs_that_are_altered_are_read_or_refused_in_one_line(graph: Path, tmp_path: Path) -> None:
    ends: Counter[str] = Counter()
    for i in range(COUNT):
        folder = Path(shutil.copytree(graph, tmp_path / str(i)))
        said = alter_graph(folder / "model.onnx", Random(i))
        for act in (_load_all, count_live, read_graph):
            try:
                act(folder / "model.onnx")
                ends["read"] += 1
            except BundleError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000, f"{i} {said}: {error}"
                ends["refused"] += 1
            except Exception as error:
                raise AssertionError(f"{i} {said[:300]}: {act.__name__}") from error
        shutil.rmtree(folder)
    assert ends["read"] > COUNT and ends["refused"] > COUNT / 5, ends


def _load_all(path: Path) -> None:
    """Every weight, as a validation compares them."""
    for tensor in list_onnx_tensors(path):
        tensor.load()
