"""OpenVINO IR: what is stored, that nothing is widened on the way, and that another reader opens it."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.errors import InputError, MachineError
from sprint_export.export.to_openvino import writer as to_openvino
from sprint_export.export.to_openvino.writer import EXPORTER, GRAPH, WEIGHTS
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.runtimes.openvino_ir.runtime import open_core
from tests.export.to_onnx.graphs import quantize, small_component, small_feeds
from tests.made_student import Array, snr_db

openvino = pytest.importorskip("openvino")
ROLES = ("text_encoder", "transformer", "vae_decoder")
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}  # so that rounding, not bfloat16 arithmetic, is what is compared


def write(component: Component, precision: str, folder: Path, unit: str = "cpu") -> ComponentRecord:
    folder.mkdir(parents=True, exist_ok=True)
    target = load_target("openvino")
    return EXPORTER.write_component(component, target, precision, {"compute_unit": unit}, folder)


def run_ir(path: Path, feeds: dict[str, Array]) -> Array:
    """As any OpenVINO program would."""
    model = open_core().compile_model(path, "CPU", FLOAT32)
    return np.asarray(next(iter(model(feeds).values())))


@pytest.fixture(scope="session")
def int8_student(made_special: Student) -> Student:
    return quantize(made_special, "openvino", "int8")


@pytest.fixture(scope="session")
def int8_folder(int8_student: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made student as IR, all three networks."""
    folder = tmp_path_factory.mktemp("ir")
    for role in ROLES:
        write(int8_student.components[role], "int8", folder / role)
    return folder


@pytest.mark.parametrize("role", ROLES)
def test_int8_is_the_fake_quantized_torch(
    int8_student: Student, int8_folder: Path, made_feeds: dict[str, dict[str, Array]], role: str
) -> None:
    component, feeds = int8_student.components[role], made_feeds[role]
    wanted = TorchSession(component, fake=True, dtype="fp16").run(feeds)[component.outputs[0].name]
    plain = TorchSession(component).run(feeds)[component.outputs[0].name]
    converter, recipe = snr_db(run_ir(int8_folder / role / GRAPH, feeds), wanted), snr_db(wanted, plain)
    # Not 100: other kernels round a few values to the neighbouring step.
    assert converter >= recipe + 3, f"{converter:.1f} dB from fake-quantized torch, at least 3 above the recipe's {recipe:.1f}"
    assert recipe < 60, "the fake-quantized output is the float one: nothing was quantized"


@pytest.mark.parametrize("role", ROLES)
def test_weights_are_stored_as_the_record_says(int8_student: Student, int8_folder: Path, role: str) -> None:
    model = openvino.Core().read_model(int8_folder / role / GRAPH)
    counts = to_openvino.count_precisions(model)
    component = int8_student.components[role]
    shapes = [component.weights[f"{name}.weight"].shape for name in component.layers]
    stored, zeros = sum(math.prod(shape) for shape in shapes), sum(shape[0] for shape in shapes)
    assert stored <= counts["INT8"] <= stored + zeros, "quantized weights and their zero points, nothing else"
    size = (int8_folder / role / WEIGHTS).stat().st_size
    bytes_of = {"FLOAT": 4, "FLOAT16": 2, "INT8": 1, "UINT8": 1}
    assert size <= 1.02 * sum(bytes_of[kind] * count for kind, count in counts.items()) + 20_000


def test_a_large_16_bit_weight_is_marked_as_decompression(
    tiny_special: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(to_openvino, "SMALL_VALUES", 64)
    record = write(tiny_special.components["transformer"], "fp16", tmp_path)
    assert record.precision_counts["FLOAT16"] > 10 * record.precision_counts["FLOAT"]
    tree = ElementTree.parse(tmp_path / GRAPH)
    layers = {layer.get("id"): layer for layer in tree.iterfind("layers/layer")}
    half = [id for id, layer in layers.items() if layer.get("type") == "Const" and _element_type(layer) == "f16"]
    readers = [layers[edge.get("to-layer")] for edge in tree.iterfind("edges/edge") if edge.get("from-layer") in half]
    assert len(readers) >= len(half) > 0
    for reader in readers:
        mark = reader.find("rt_info/attribute")
        assert reader.get("type") == "Convert"
        assert mark is not None
        assert mark.get("name") == "decompression"
    component = tiny_special.components["transformer"]
    feeds = {spec.name: np.ones([int(s) for s in spec.shape], spec.dtype) for spec in component.inputs}
    wanted = TorchSession(component, fake=True, dtype="fp16").run(feeds)["denoised"]
    found = snr_db(run_ir(tmp_path / GRAPH, feeds), wanted)
    assert found >= 80, f"{found:.1f} dB, at least 80: the weights are the same and the arithmetic is float32"


def _element_type(layer: Any) -> str | None:
    data: str | None = layer.find("data").get("element_type")
    return data


def test_the_folder_holds_the_ir_and_nothing_else(int8_folder: Path) -> None:
    assert {path.name for path in (int8_folder / "transformer").iterdir()} == {GRAPH, WEIGHTS}
    assert (GRAPH, WEIGHTS) == ("openvino_model.xml", "openvino_model.bin"), "as optimum-intel names them"


def test_the_unit_is_written_into_the_file(tmp_path: Path) -> None:
    write(small_component(), "fp16", tmp_path, "npu")
    model = openvino.Core().read_model(tmp_path / GRAPH)
    assert model.get_rt_info(["sprint_export", "compute_unit"]).astype(str) == "npu"


def test_written_twice_is_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write(small_component(), "fp16", tmp_path / name)
    for file in (GRAPH, WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_other_programs_find_inputs_and_outputs_by_name(tmp_path: Path) -> None:
    write(small_component(), "fp16", tmp_path)
    model = openvino.Core().read_model(tmp_path / GRAPH)
    assert [value.any_name for value in (*model.inputs, *model.outputs)] == ["latents", "image"]
    assert run_ir(tmp_path / GRAPH, small_feeds()).shape == (1, 64, 48)


def test_files_are_told_apart() -> None:
    assert [EXPORTER.kind_of(Path(name)) for name in (GRAPH, WEIGHTS, "config.json")] == ["graph", "weights", None]


def test_an_unspecialized_component_is_refused(tiny_student: Student, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="transformer has no input specs; call specialize_student before exporting"):
        write(tiny_student.components["transformer"], "fp16", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_openvino_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MachineError, match=r"openvino is not installed; run: pip install 'sprint-export\[openvino\]'"):
        write(small_component(), "fp16", tmp_path)
