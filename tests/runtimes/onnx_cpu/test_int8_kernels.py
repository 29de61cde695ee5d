"""What ONNX Runtime makes of an onnx-int8 graph: quantized layers in integer kernels, no weight dequantized at run time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.runtimes.onnx_cpu.runtime import RUNTIME
from sprint_export.runtimes.onnx_cpu.target import TARGET
from sprint_export.specialize import specialize_student
from tests.export.to_onnx.graphs import Exported, export_component, make_feeds, optimize, producers, quantize
from tests.made_student import snr_db
from tests.tree import ROLES

MIN_SNR_DB = 40.0  # kernels sum in another order, and values near a rounding threshold fall to the neighbouring step


@pytest.fixture(scope="module")
def special(made: Student) -> Student:
    return quantize(specialize_student(made), "onnx", "int8")


@pytest.fixture(scope="module")
def graphs(special: Student, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    folder = tmp_path_factory.mktemp("kernels")
    return {role: export_component(special.components[role], "fp32", folder / role, TARGET.rewrites) for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_every_quantized_layer_is_an_integer_kernel(graphs: dict[str, Exported], role: str) -> None:
    graph = graphs[role]
    layers = graph.component.layers
    model = optimize(graph.path)
    ops = Counter(node.op_type for node in model.graph.node)
    halves = {name: 2 if name.endswith("conv_inverted") else 1 for name in layers}  # rules/separate_gate.py
    assert ops["QLinearConv"] == sum(layer.output_amax is not None for layer in layers.values())
    assert ops["MatMulIntegerToFloat"] == sum(halves[name] for name, layer in layers.items() if layer.output_amax is None)
    assert ops["MatMulInteger"] == 0, "an integer product without its fused scale"
    stored = {value.name: value for value in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            assert list(stored[node.input[0]].dims) == [], f"{node.input[0]} is dequantized at every run"
        if node.op_type in ("MatMulIntegerToFloat", "QLinearConv"):
            weight, zero = (1, 5) if node.op_type == "MatMulIntegerToFloat" else (3, 5)
            assert stored[node.input[weight]].data_type == onnx.TensorProto.INT8
            assert not np.any(onnx.numpy_helper.to_array(stored[node.input[zero]]))


@pytest.mark.parametrize("role", ROLES)
def test_biases_are_part_of_the_kernel(graphs: dict[str, Exported], role: str) -> None:
    model = optimize(graphs[role].path)
    stored = {value.name for value in model.graph.initializer}
    made_by = producers(model)
    for node in model.graph.node:
        sources = [made_by[name].op_type for name in node.input if name in made_by]
        if node.op_type == "Add" and any(name in stored for name in node.input):
            assert "MatMulIntegerToFloat" not in sources, node.name


@pytest.mark.parametrize("role", ROLES)
def test_the_kernels_give_what_torch_gives_with_the_same_rounding(
    special: Student, graphs: dict[str, Exported], role: str
) -> None:
    component, ratios = special.components[role], []
    session = RUNTIME.open_session(graphs[role].path, component.inputs, component.outputs)
    for seed in range(5):  # one of ten noises has a value that falls to the neighbouring step early, and is 10 dB worse
        feeds = make_feeds(special, seed)[role]
        (found,) = session.run(feeds).values()
        (wanted,) = TorchSession(component, fake=True).run(feeds).values()
        ratios.append(snr_db(found, wanted))
    assert np.median(ratios) > MIN_SNR_DB, ratios
