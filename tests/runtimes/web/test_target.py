"""Target web: what it refuses, what a page has to load, and operators that WebAssembly and WebGPU both have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sprint_export.conversion import convert
from sprint_export.devices import find_device
from sprint_export.errors import InputError, RefusedError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import Student
from sprint_export.runtimes import open_bundle
from sprint_export.runtimes.open import choose_runtime
from sprint_export.runtimes.web.rows import find_largest, weigh_downloads
from sprint_export.runtimes.web.target import TARGET
from tests import small_graphs
from tests.made_student import PROMPTS, Array

# With kernels in onnxruntime-web's WebGPU provider, by its list of operators (js/web/docs/webgpu-operators.md) and a run of every
# one of them (docs/providers.md).
IN_WEBGPU = {
    *("Add", "Cast", "Clip", "Concat", "Conv", "DepthToSpace", "DequantizeLinear", "Div", "Exp", "Expand", "Gather", "Gelu"),
    *("LayerNormalization", "MatMul", "MatMulNBits", "Max", "Min", "Mul", "Neg", "Pad", "Pow", "Reciprocal", "ReduceMax"),
    *("ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Sub", "Sum"),
    *("Tanh", "Transpose", "Unsqueeze"),
}


@pytest.fixture(scope="module")
def made(tiny_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The two-layer twin in 4 bits, nothing measured."""
    folder = tmp_path_factory.mktemp("web") / "bundle"
    return convert(tiny_student, "web-w4a16", folder, recipe="fast", validate=False)


def read_graphs(bundle: Bundle) -> dict[str, onnx.ModelProto]:
    return {each.role: onnx.load(str(bundle.folder / each.role / "model.onnx")) for each in bundle.components}


def test_it_has_only_operators_that_webgpu_has(made: Bundle) -> None:
    found = Counter(node.op_type for model in read_graphs(made).values() for node in model.graph.node)
    assert set(found) <= IN_WEBGPU, set(found) - IN_WEBGPU
    assert found["MatMulNBits"] > 20
    assert found["MatMul"] > 0, "attention's own products"


def test_it_computes_in_half_precision_between_float32_borders(made: Bundle) -> None:
    for role, model in read_graphs(made).items():
        borders = {each.type.tensor_type.elem_type for each in (*model.graph.input, *model.graph.output)}
        assert borders <= {TensorProto.FLOAT, TensorProto.INT64}, role
        floats = Counter(each.data_type for each in model.graph.initializer)
        assert floats[TensorProto.FLOAT16] > 10, role


def test_the_bundle_draws(made: Bundle) -> None:
    picture = open_bundle(made.folder)(PROMPTS[:1])
    assert picture.std() > 0


def test_what_a_page_loads_is_weighed(made: Bundle) -> None:
    rows = {(row.component, row.metric): row.value for row in weigh_downloads(made)}
    shipped = [path for path in made.folder.rglob("*") if path.parent.name == "tokenizer" or path.name.startswith("model.onnx")]
    assert rows["", "download_mb"] == pytest.approx(sum(path.stat().st_size for path in shipped) / 1e6)
    for record in made.components:
        own = [path for path in shipped if path.parent.name == record.role]
        assert rows[record.role, "network_mb"] == pytest.approx(sum(path.stat().st_size for path in own) / 1e6)
        assert 0 < rows[record.role, "largest_tensor_mb"] < rows[record.role, "network_mb"]
    assert {row.metric for row in TARGET.read_rows(made)} == {metric.name for metric in TARGET.metrics}


@pytest.mark.parametrize(
    ("array", "kind", "size"),
    [(np.zeros((3, 5), np.float32), None, 60), (np.zeros((3, 8), np.float16), None, 48), (None, TensorProto.INT4, 12)],
)
def test_the_largest_tensor_is_counted_in_its_own_type(array: Array | None, kind: int | None, size: int, tmp_path: Path) -> None:
    four_bits = onnx.helper.make_tensor("w", TensorProto.INT4 if kind is None else kind, [3, 8], [1] * 24)
    tensor = four_bits if array is None else onnx.numpy_helper.from_array(array, "w")
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    path = small_graphs.save_graph(tmp_path / "model.onnx", nodes, {"x": [2]}, [2], [tensor], TensorProto.FLOAT)
    assert find_largest(path) == size


def test_limits_of_a_page_are_gates() -> None:
    assert {gate.text for gate in TARGET.gates} == {"largest_tensor_mb<=2147", "network_mb<=4000"}


def test_8_bits_are_for_webassembly_and_cpus(made: Bundle) -> None:
    for provider in ("webgpu", "cuda"):
        said = f"web-int8 is in a form for WebAssembly and CPUs, not for {provider}; use web-w4a16 or web-fp16"
        assert TARGET.refuse_provider("int8", provider) == said
        assert TARGET.refuse_provider("w4a16", provider) is None
    assert TARGET.refuse_provider("int8", "cpu") is None
    assert choose_runtime(read_bundle(made.folder), None, "cpu").name == "onnx"


@pytest.mark.parametrize(
    ("target", "kind", "said"),
    [
        ("web-fp8", (InputError, RefusedError), "web-fp8: neither WebAssembly nor WebGPU has FP8; use web-int8"),
        ("web-fp32", (InputError, RefusedError), "web-fp32: onnx-fp32 is that; on a page web-fp16 is half as long a download"),
    ],
)
def test_what_it_cannot_have_is_refused_with_the_nearest_that_can(
    target: str, kind: tuple[type[Exception], ...], said: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        convert("sprint-tiny", target, tmp_path / "out")
    assert TARGET.refuses("w4a16", find_device("cpu")) is None
