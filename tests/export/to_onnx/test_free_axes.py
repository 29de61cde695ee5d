"""Graphs with free height and width: the same nodes and values as fixed ones, right at other sizes, shapes as recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from sprint_export.export.to_onnx.free_axes import make_example, name_axes
from sprint_export.export.to_onnx.writer import make_graph
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.runtimes.onnx_cpu.target import TARGET
from sprint_export.sizes import read_axis
from sprint_export.specialize import specialize_student
from sprint_export.students.family import load_family
from sprint_export.students.sana_sprint.presets import tiny
from tests.export.to_onnx.graphs import Exported, count_ops, export_component, initializers, quantize, run_onnx
from tests.made_student import Array, snr_db

ROLES = ("transformer", "vae_decoder")
MIN_FLOAT_DB = 90.0  # float32 sums in another order; measured 124
MIN_INT8_DB = 38.0  # last digits of sums move values over INT8's steps, as ranges fall: 39.7 measured
SIZES = ((16, 16), (8, 24), (10, 6), (2, 4))  # of latents; the first is the students' own
ARITHMETIC = {
    "Shape",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Reshape",
    "Add",
    "Mul",
    "Expand",
    "Cast",
}  # what sizes are computed with
STUDENTS = {"made": 1, "tiny, 2 x 2 patches": 2}  # and how many steps


def specialized(name: str, made: Student) -> Student:
    return specialize_student(made if name == "made" else tiny(patch_size=2), STUDENTS[name])


def freed(student: Student) -> Student:
    result = load_family(student.family).free_sizes(student)
    return result


def make_noise_feeds(component: Component, height: int, width: int, scale: float = 1.0) -> dict[str, Array]:
    """Seeded noise for latents of this size and for text of 40 rows."""
    rng, feeds = np.random.default_rng(height), dict[str, Array]()
    for spec in component.inputs:
        shape = [size if isinstance(size, int) else 0 for size in spec.shape]
        if spec.name == "latents":
            feeds[spec.name] = scale * rng.standard_normal((*shape[:2], height, width), np.float32)
        elif spec.dtype == "float32":
            feeds[spec.name] = rng.standard_normal(shape, np.float32)
        else:
            feeds[spec.name] = np.zeros(shape, np.int64)
    if "prompt_mask" in feeds:
        feeds["prompt_mask"][:, :40] = 1
    return feeds


@pytest.fixture(scope="module", params=STUDENTS)
def fixed(request: pytest.FixtureRequest, made: Student) -> Student:
    return specialized(request.param, made)


@pytest.fixture(scope="module")
def pairs(fixed: Student, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Exported, Exported]]:
    """Fixed and free, as onnx-fp32 ships them."""
    folder, free = tmp_path_factory.mktemp("free"), freed(fixed)
    return {role: _export_pair(fixed.components[role], free.components[role], folder / role) for role in ROLES}


def _export_pair(fixed: Component, free: Component, folder: Path) -> tuple[Exported, Exported]:
    first = export_component(fixed, "fp32", folder / "fixed", TARGET.rewrites)
    return first, export_component(free, "fp32", folder / "free", TARGET.rewrites)


@pytest.mark.parametrize("role", ROLES)
def test_at_the_students_size_it_is_the_fixed_graph_bit_by_bit(pairs: dict[str, tuple[Exported, Exported]], role: str) -> None:
    fixed, free = pairs[role]
    feeds = make_noise_feeds(fixed.component, *SIZES[0])
    np.testing.assert_array_equal(run_onnx(free.path, feeds, fuse=False), run_onnx(fixed.path, feeds, fuse=False))
    fused = snr_db(run_onnx(free.path, feeds), run_onnx(fixed.path, feeds))  # ONNX Runtime makes a Gemm of fixed sizes only
    assert fused > MIN_FLOAT_DB, f"{fused:.1f} dB, demanded {MIN_FLOAT_DB}"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", SIZES[1:])
def test_at_other_sizes_it_is_torch_at_that_size(
    pairs: dict[str, tuple[Exported, Exported]], role: str, size: tuple[int, int]
) -> None:
    fixed, free = pairs[role]
    feeds = make_noise_feeds(fixed.component, *size)
    (wanted,) = TorchSession(fixed.component).run(feeds).values()
    found = run_onnx(free.path, feeds)
    assert found.shape == wanted.shape
    assert snr_db(found, wanted) > MIN_FLOAT_DB, f"{snr_db(found, wanted):.1f} dB, demanded {MIN_FLOAT_DB}"


@pytest.mark.parametrize("role", ROLES)
def test_every_rewrite_fires_as_it_does_with_fixed_sizes(pairs: dict[str, tuple[Exported, Exported]], role: str) -> None:
    fixed, free = (count_ops(graph.model) for graph in pairs[role])
    assert not fixed - free
    assert set(free - fixed) <= ARITHMETIC, f"more of {free - fixed}"


@pytest.mark.parametrize("role", ROLES)
def test_a_reshape_is_computed_only_where_two_axes_are_free(pairs: dict[str, tuple[Exported, Exported]], role: str) -> None:
    model = pairs[role][1].model
    stored, shapes = initializers(model), {v.name: v.type.tensor_type.shape.dim for v in model.graph.value_info}
    reshapes = [node for node in model.graph.node if node.op_type == "Reshape" and node.output[0] in shapes]
    assert reshapes
    for node in reshapes:
        free = [d.dim_param for d in shapes[node.output[0]] if d.dim_param]
        assert (node.input[1] in stored) == (len(free) <= 1), f"{node.name}: {free}"


@pytest.mark.parametrize("role", ROLES)
def test_the_interface_has_the_specs_names(pairs: dict[str, tuple[Exported, Exported]], role: str) -> None:
    free = pairs[role][1]
    graph, component = free.model.graph, free.component
    for values, specs in ((graph.input, component.inputs), (graph.output, component.outputs)):
        found = [tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim) for value in values]
        assert found == [spec.shape for spec in specs]
    named = {d.dim_param for value in graph.value_info for d in value.type.tensor_type.shape.dim if d.dim_param}
    assert any("height*width" in name for name in named)
    assert not [name for name in named if not set(ir.SymbolicDim(name).free_symbols()) <= {"height", "width"}]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", SIZES[:2])
def test_values_have_the_shapes_that_are_recorded(
    pairs: dict[str, tuple[Exported, Exported]], role: str, size: tuple[int, int]
) -> None:
    for graph in pairs[role] if size == SIZES[0] else pairs[role][1:]:
        _check_shapes(graph, size)


def _check_shapes(graph: Exported, size: tuple[int, int]) -> None:
    """Run node by node with every recorded value returned."""
    model = graph.model
    recorded = {v.name: v for v in model.graph.value_info if v.type.tensor_type.HasField("shape")}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, v.type.tensor_type.elem_type, None) for name, v in recorded.items()
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    side = graph.component.inputs[0].shape[2]
    step = read_axis(side)[0] if isinstance(side, str) else 1
    sizes = {"height": size[0] // step, "width": size[1] // step}
    found = session.run(list(recorded), make_noise_feeds(graph.component, *size))
    for name, array in zip(recorded, found, strict=True):
        dims = recorded[name].type.tensor_type.shape.dim
        shape = [ir.SymbolicDim(d.dim_param).evaluate(sizes) if d.dim_param else d.dim_value for d in dims]
        assert list(array.shape) == shape, f"{name}: recorded {[d.dim_param or d.dim_value for d in dims]}"


@pytest.fixture(scope="module")
def rounded(made: Student, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Exported, Exported]]:
    """Fixed and free, as onnx-int8 ships them."""
    student, folder = quantize(specialize_student(made), "onnx", "int8"), tmp_path_factory.mktemp("free8")
    free = freed(student)
    return {role: _export_pair(student.components[role], free.components[role], folder / role) for role in ROLES}


@pytest.mark.parametrize("role", ROLES)
def test_int8_is_the_fixed_graph_too(rounded: dict[str, tuple[Exported, Exported]], role: str) -> None:
    fixed, free = rounded[role]
    feeds = make_noise_feeds(fixed.component, *SIZES[0])
    np.testing.assert_array_equal(run_onnx(free.path, feeds, fuse=False), run_onnx(fixed.path, feeds, fuse=False))
    before, after = count_ops(fixed.model), count_ops(free.model)
    assert not before - after
    assert set(after - before) <= ARITHMETIC
    _check_shapes(free, SIZES[1])


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", SIZES[1:])
def test_int8_at_other_sizes_is_torch_with_the_same_rounding(
    rounded: dict[str, tuple[Exported, Exported]], role: str, size: tuple[int, int]
) -> None:
    fixed, free = rounded[role]
    feeds = make_noise_feeds(fixed.component, *size, scale=0.5 if role == "vae_decoder" else 1.0)
    (wanted,) = TorchSession(fixed.component, fake=True).run(feeds).values()
    found = run_onnx(free.path, feeds, fuse=False)
    assert found.shape == wanted.shape
    assert snr_db(found, wanted) > MIN_INT8_DB, f"{snr_db(found, wanted):.1f} dB, demanded {MIN_INT8_DB}"


@pytest.mark.parametrize(("precision", "dtype"), [("fp8", "fp32"), (None, "fp16")])
def test_the_other_precisions_capture_too(made: Student, dtype: str, precision: str | None, tmp_path: Path) -> None:
    student = specialize_student(made) if precision is None else quantize(specialize_student(made), "onnx", precision)
    for role in ROLES:
        graph = export_component(freed(student).components[role], dtype, tmp_path / role, TARGET.rewrites)
        onnx.checker.check_model(str(graph.path), full_check=True)
        feeds = make_noise_feeds(graph.component, *SIZES[1])
        (wanted,) = TorchSession(student.components[role], fake=True, dtype=dtype).run(feeds).values()
        found = run_onnx(graph.path, feeds, fuse=False)
        assert snr_db(found, wanted) > MIN_INT8_DB, f"{role}: {snr_db(found, wanted):.1f} dB, demanded {MIN_INT8_DB}"


def test_examples_differ_from_axis_to_axis_and_keep_multiples() -> None:
    specs = (TensorSpec("x", "float32", (1, 4, "2*height", "2*width"), ""), TensorSpec("ids", "int64", (1, 9), ""))
    (x, ids), free = make_example(specs)
    assert (x.device.type, x.dtype, ids.dtype, ids.shape) == ("meta", torch.float32, torch.int64, (1, 9))
    assert x.shape[2] != x.shape[3]
    assert not any(size % 2 or size < 4 for size in x.shape[2:])
    assert free is not None
    assert [list(axes) for axes in free] == [[2, 3], []]
    assert make_example(specs[1:])[1] is None


def test_a_graph_without_free_axes_is_left_alone(made: Student) -> None:
    component = specialize_student(made).components["vae_decoder"]
    model = make_graph(component, "fp32")
    shapes = [value.shape for node in model.graph for value in node.outputs]
    name_axes(model, component)
    assert [value.shape for node in model.graph for value in node.outputs] == shapes
    assert {value.type.tensor_type.elem_type for value in ir.to_proto(model).graph.input} == {TensorProto.FLOAT}


def test_a_spec_that_the_network_does_not_keep_is_a_mistake(made: Student) -> None:
    component = freed(specialize_student(made)).components["vae_decoder"]
    wrong = dataclasses.replace(component.outputs[0], shape=(1, 3, "8*height", "8*width"))
    with pytest.raises(AssertionError, match=r"image came out as .*, its spec says .*8\*height"):
        make_graph(dataclasses.replace(component, outputs=(wrong,)), "fp32")
