"""Values inside a graph are thinned where they are made: a large decoder's together would not fit into any memory."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from sprint_export.runtimes.inner_values import Sample
from sprint_export.runtimes.onnx_cpu.inner_values import OnnxInnerGraph
from sprint_export.runtimes.onnx_cpu.runtime import make_options

LENGTH = 6
SCALE = 1 / 128
PROVIDERS = ["CPUExecutionProvider"]
X = np.arange(64, dtype=np.float32).reshape(1, 64)


def save_chain(path: Path, is_quantized: bool) -> Path:
    """v1 = sin(x), v2 = sin(v1), ...; nothing that ONNX Runtime would make one of. Quantized: each rounded to 1 / 128."""
    shape = [1, 64]
    names = ["x", *(f"v{i}" for i in range(1, LENGTH + 1))]
    nodes = []
    for before, name in itertools.pairwise(names):
        if is_quantized:
            nodes += [
                onnx.helper.make_node("Sin", [before], [f"{name}.sin"], name=f"{name}.sin"),
                onnx.helper.make_node("QuantizeLinear", [f"{name}.sin", "scale", "zero"], [f"{name}.q"], name=f"{name}.q"),
                onnx.helper.make_node("DequantizeLinear", [f"{name}.q", "scale", "zero"], [name], name=name),
            ]
        else:
            nodes.append(onnx.helper.make_node("Sin", [before], [name], name=name))
    constants = [
        onnx.helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [SCALE]),
        onnx.helper.make_tensor("zero", onnx.TensorProto.INT8, [], [0]),
    ]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in names]
    graph = onnx.helper.make_graph(nodes, "chain", values[:1], values[-1:], constants, value_info=values[1:-1])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), str(path))
    return path


@pytest.mark.parametrize("is_quantized", [False, True])
def test_each_value_is_thinned_before_the_next_is_made(tmp_path: Path, is_quantized: bool) -> None:
    options = make_options(keeps_memory=False)
    inner = OnnxInnerGraph(save_chain(tmp_path / "model.onnx", is_quantized), "cpu", options)
    samples = [Sample(f"v{i}", axis=1, step=8) for i in range(1, LENGTH)]
    values, outputs = inner.run({"x": X}, samples)
    step = SCALE if is_quantized else 0.0
    wanted = X
    for value in values:
        wanted = np.sin(wanted)
        np.testing.assert_allclose(value, wanted[:, ::8], rtol=1e-5, atol=LENGTH * step)
    np.testing.assert_allclose(outputs[f"v{LENGTH}"], np.sin(wanted), rtol=1e-5, atol=LENGTH * step)
    assert {value.dtype for value in (*values, *outputs.values())} == {np.dtype("float32")}

    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    asked = [Sample(f"v{LENGTH}"), *samples]
    session = onnxruntime.InferenceSession(inner._ask_for(asked)[0].SerializeToString(), options, providers=PROVIDERS)
    session.run(None, {"x": X})
    events = json.loads(Path(session.end_profiling()).read_text())
    order = [event["name"].removesuffix("_kernel_time") for event in events if event["name"].endswith("_kernel_time")]
    made = f"v{{}}{'.sin' if is_quantized else ''}"
    for i in range(1, LENGTH):
        assert order.index(f"sprint_export.value.{i}.slice") < order.index(made.format(i + 1)), order
