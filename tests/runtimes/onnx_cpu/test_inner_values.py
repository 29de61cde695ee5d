"""Values inside a graph are thinned where they are made: a large decoder's together would not fit into any memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from sprint_export.runtimes.inner_values import Sample
from sprint_export.runtimes.onnx_cpu.inner_values import OnnxInnerGraph
from sprint_export.runtimes.onnx_cpu.runtime import make_options

LENGTH = 6
X = np.arange(64, dtype=np.float32).reshape(1, 64)


def save_chain(path: Path) -> Path:
    """v1 = sin(x), v2 = sin(v1), ...; nothing that ONNX Runtime would make one of."""
    shape = [1, 64]
    names = ["x", *(f"v{i}" for i in range(1, LENGTH + 1))]
    nodes = [onnx.helper.make_node("Sin", [before], [name], name=name) for before, name in itertools.pairwise(names)]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in names]
    graph = onnx.helper.make_graph(nodes, "chain", values[:1], values[-1:], value_info=values[1:-1])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


def test_each_value_is_thinned_before_the_next_is_made(tmp_path: Path) -> None:
    options = make_options(keeps_memory=False)
    inner = OnnxInnerGraph(save_chain(tmp_path / "model.onnx"), "cpu", options)
    samples = [Sample(f"v{i}", axis=1, step=8) for i in range(1, LENGTH)]
    values, outputs = inner.run({"x": X}, samples)
    wanted = X
    for value in values:
        wanted = np.sin(wanted)
        np.testing.assert_allclose(value, wanted[:, ::8], rtol=1e-5)
    np.testing.assert_allclose(outputs[f"v{LENGTH}"], np.sin(wanted), rtol=1e-5)

    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    model, names = inner._add_outputs(samples)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(names, {"x": X})
    events = json.loads(Path(session.end_profiling()).read_text())
    order = [event["name"].removesuffix("_kernel_time") for event in events if event["name"].endswith("_kernel_time")]
    for i in range(1, LENGTH):
        assert order.index(f"sprint_export.value.{i - 1}.slice") < order.index(f"v{i + 1}"), order
