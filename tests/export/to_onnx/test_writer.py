"""Float graphs: valid, equal to torch, the same bytes every time, and written with one weight in memory."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from sprint_export.errors import InputError
from sprint_export.export.to_onnx.passes import ORDER, SMALL
from sprint_export.export.to_onnx.writer import INLINE_BYTES, OPSET, count_precisions, make_graph, write_graph
from sprint_export.nouns.student import Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.specialize import specialize_student
from sprint_export.students.sana_sprint.presets import tiny
from sprint_export.weights import LazyHandle
from tests.export.to_onnx.graphs import HALF, Exported, initializers, producers, quantize_small, run_onnx, small_component
from tests.export.to_onnx.meter import Meter
from tests.made_student import Array, relative_error
from tests.tree import ROLES, ROOT

TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
LIMIT = 1e-4  # float32 sums in another order; measured 1e-6


@pytest.mark.parametrize("role", ROLES)
def test_onnx_runtime_computes_what_torch_computes(
    fp32_graphs: dict[str, Exported], tiny_feeds: dict[str, dict[str, Array]], role: str
) -> None:
    graph = fp32_graphs[role]
    wanted = TorchSession(graph.component).run(tiny_feeds[role])[graph.component.outputs[0].name]
    error = relative_error(run_onnx(graph.path, tiny_feeds[role]), wanted)
    assert error <= LIMIT, f"deviation {error:.2e} of the range, tolerance {LIMIT}"


@pytest.mark.parametrize("role", ROLES)
def test_the_interface_is_the_specs(fp32_graphs: dict[str, Exported], role: str) -> None:
    graph, model = fp32_graphs[role], fp32_graphs[role].model
    onnx.checker.check_model(str(graph.path), full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    for values, specs in ((model.graph.input, graph.component.inputs), (model.graph.output, graph.component.outputs)):
        found = [(v.name, v.type.tensor_type.elem_type, tuple(d.dim_value for d in v.type.tensor_type.shape.dim)) for v in values]
        assert found == [(spec.name, TYPES[spec.dtype], spec.shape) for spec in specs]
    assert model.graph.name == role
    assert not model.functions


@pytest.mark.parametrize("role", ROLES)
def test_weights_keep_their_names_and_values(fp32_graphs: dict[str, Exported], role: str) -> None:
    component, stored = fp32_graphs[role].component, initializers(fp32_graphs[role].model)
    found = set()
    for name, handle in component.weights.items():
        for suffix in ("", ".transposed"):
            if name + suffix in stored:
                value = onnx.numpy_helper.to_array(stored[name + suffix])
                np.testing.assert_array_equal(value.T if suffix else value, handle.load().float().numpy())
                found.add(name)
    large = {name for name, handle in component.weights.items() if int(np.prod(handle.shape)) > SMALL}
    assert large <= found, f"not in the graph by name: {sorted(large - found)} (small ones may be folded into constants)"
    assert len(large) > 5


@pytest.mark.parametrize("role", ROLES)
def test_linears_are_matmuls_without_a_transpose(fp32_graphs: dict[str, Exported], role: str) -> None:
    component, model = fp32_graphs[role].component, fp32_graphs[role].model
    stored = initializers(model)
    assert not [n.name for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in stored]
    linears = [name for name, m in component.module.named_modules() if isinstance(m, torch.nn.Linear)]
    read = {n.input[1] for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in stored}
    assert read == {f"{name}.weight.transposed" for name in linears}
    convs = [name for name, m in component.module.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert {n.input[1] for n in model.graph.node if n.op_type == "Conv"} == {f"{name}.weight" for name in convs}


@pytest.mark.parametrize("role", ROLES)
def test_nothing_dead_is_left(fp32_graphs: dict[str, Exported], role: str) -> None:
    graph = fp32_graphs[role].model.graph
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    assert not {value.name for value in graph.initializer} - read
    assert all(any(name in read for name in node.output) for node in graph.node)
    assert not [node for node in graph.node if node.op_type in ("Constant", "Identity")]


@pytest.mark.parametrize("role", ROLES)
def test_the_file_tells_nothing_of_this_machine(fp32_graphs: dict[str, Exported], role: str) -> None:
    data = fp32_graphs[role].path.read_bytes()
    model = onnx.load(str(fp32_graphs[role].path), load_external_data=False)
    for part in (
        str(ROOT),
        str(fp32_graphs[role].path.parent),
        "site-packages",
        ".py",
        "Traceback",
        "line ",
        "pkg.torch",
        "sha256",
    ):
        assert part.encode() not in data, f"{part!r} is in the graph file"
    assert not model.metadata_props
    assert not model.doc_string
    assert not model.graph.doc_string
    assert model.producer_name == "sprint-export"
    for node in model.graph.node:
        assert not node.doc_string
        assert not node.metadata_props


@pytest.mark.parametrize("role", ROLES)
def test_large_weights_are_external_and_small_ones_are_not(fp32_graphs: dict[str, Exported], role: str) -> None:
    path = fp32_graphs[role].path
    model = onnx.load(str(path), load_external_data=False)
    where = {True: 0, False: 0}
    for tensor in model.graph.initializer:
        size = int(np.prod(tensor.dims)) * (8 if tensor.data_type == TensorProto.INT64 else 4)
        external = tensor.data_location == TensorProto.EXTERNAL
        assert external == (size >= INLINE_BYTES) or size == INLINE_BYTES, f"{tensor.name}: {size} bytes, external {external}"
        where[external] += 1
        if external:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            assert entries["location"] == "model.onnx.data", "a bare name: the folder can be moved"
            assert int(entries["offset"]) + int(entries["length"]) <= path.with_name("model.onnx.data").stat().st_size
    assert where[True] > 5
    assert {file.name for file in path.parent.iterdir()} == {"model.onnx", "model.onnx.data"}


def test_captured_twice_is_the_same_bytes(fp32_graphs: dict[str, Exported], tmp_path: Path) -> None:
    """Another capture, another folder, over a file that was there."""
    graph = fp32_graphs["transformer"]
    (tmp_path / "model.onnx.data").write_bytes(b"left by somebody else" * 1000)
    write_graph(make_graph(graph.component, "fp32"), tmp_path / "model.onnx")
    for name in ("model.onnx", "model.onnx.data"):
        assert (tmp_path / name).read_bytes() == (graph.path.parent / name).read_bytes(), f"{name} differs"


@pytest.mark.parametrize(("precision", "dtype"), [(None, "fp32"), (None, "bf16"), ("int8", "fp32"), ("fp8", "bf16")])
def test_weights_are_pulled_one_at_a_time(precision: str | None, dtype: str, tmp_path: Path) -> None:
    meter = Meter()
    component = small_component() if precision is None else quantize_small(precision, dtype, 0)
    model = make_graph(meter.watch(component), dtype)
    large = [(name, size) for name, size in meter.loads if size > SMALL]
    assert not large, f"capturing pulled {large[:3]}"
    meter.loads.clear()
    write_graph(model, tmp_path / "model.onnx")
    pulled = [name for name, _ in meter.loads]
    assert set(pulled) >= {f"{layer}.weight" for layer in ("conv", "point", "left", "right", "out")}
    most = max(pulled.count(name) for name in pulled)
    assert most <= (1 if precision is None else 2), f"a weight was pulled {most} times; only its scale may pull it once more"
    assert meter.peak <= 2, f"{meter.peak} weights were in memory at once"
    del model
    gc.collect()
    assert meter.live == 0, f"{meter.live} weights are kept alive by somebody"


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_16_bit_graph_keeps_float32_at_its_ends(tmp_path: Path, dtype: str) -> None:
    model = make_graph(small_component(), dtype)
    counts = count_precisions(model)
    name = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}[dtype]
    assert counts[name] > 0.95 * sum(counts.values()), counts
    write_graph(model, tmp_path / "model.onnx")
    proto = onnx.load(str(tmp_path / "model.onnx"))
    assert {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)} == {TensorProto.FLOAT}
    stored, made_by = initializers(proto), producers(proto)
    convs = [node for node in proto.graph.node if node.op_type == "Conv"]
    assert convs
    assert all(stored[node.input[1]].data_type in HALF for node in convs)
    assert made_by["image"].op_type == "Cast"


def test_sampling_times_stay_float32_in_a_16_bit_graph(fp8_graphs: dict[str, Exported]) -> None:
    times = initializers(fp8_graphs["transformer"].model)["times"]
    assert times.data_type == TensorProto.FLOAT
    assert onnx.numpy_helper.to_array(times)[0] == np.float32(fp8_graphs["transformer"].component.weights["times"].load()[0])


def test_a_weight_beyond_float16_is_named(tmp_path: Path) -> None:
    component = small_component()
    weight = component.weights["point.weight"]
    huge = LazyHandle(weight.shape, torch.float32, lambda: weight.load() * 1e6)
    model = make_graph(dataclasses.replace(component, weights={**component.weights, "point.weight": huge}), "fp16")
    with pytest.raises(
        InputError,
        match=r"^weight point\.weight has magnitude \d\.?\d*e\+0\d, a float16 graph holds at most 65504; choose an fp32",
    ):
        write_graph(model, tmp_path / "model.onnx")


def test_more_steps_gather_by_an_index(tiny_feeds: dict[str, dict[str, Array]], tmp_path: Path) -> None:
    component = specialize_student(tiny(num_layers=1), 3).components["transformer"]
    write_graph(make_graph(component, "fp32"), tmp_path / "model.onnx")
    session = TorchSession(component)
    results = []
    for step in range(3):
        feeds = tiny_feeds["transformer"] | {"step": np.array([step], np.int64)}
        results.append(run_onnx(tmp_path / "model.onnx", feeds))
        error = relative_error(results[-1], session.run(feeds)["denoised"])
        assert error <= LIMIT, f"step {step}: deviation {error:.2e}, tolerance {LIMIT}"
    assert relative_error(results[0], results[1]) > 1e-2


def test_an_unspecialized_component_is_refused(tiny_student: Student) -> None:
    with pytest.raises(InputError, match="transformer has no input specs; call specialize_student before exporting"):
        make_graph(tiny_student.components["transformer"], "fp32")


def test_capturing_leaves_the_component_alone() -> None:
    component = small_component()
    before = {name: (value.dtype, value.device.type) for name, value in component.module.state_dict().items()}
    make_graph(component, "bf16")
    assert {name: (value.dtype, value.device.type) for name, value in component.module.state_dict().items()} == before
    assert {device for _, device in before.values()} == {"meta"}


def test_every_pass_says_why_it_stands_where_it_does() -> None:
    names = [run.__name__ for run, _ in ORDER]
    assert len(set(names)) == len(names)
    assert names[-1] == "strip_metadata"
    assert all(run.__doc__ and reason for run, reason in ORDER)
