"""Core AI assets: what is stored, under which names, and that the CPU runtime computes what fake-quantized torch does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from sprint_export.errors import InputError
from sprint_export.nouns.bundle import ComponentRecord
from sprint_export.nouns.recipe import QuantizedLayer
from sprint_export.nouns.student import Component, Student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.runtimes.coreai_asset.runtime import CoreAISession
from sprint_export.runtimes.coreai_asset.target import TARGET
from sprint_export.weights import LazyHandle
from tests.export.to_onnx.graphs import quantize, quantize_small, small_component, small_feeds
from tests.made_student import Array, relative_error, snr_db

pytest.importorskip("coreai_torch", reason="needs the extra 'coreai'")
from sprint_export.export.to_coreai import writer as to_coreai
from tests.tree import ROLES

FILES = {"model.aimodel/main.mlirb": "graph", "model.aimodel/main.hash": "package", "model.aimodel/metadata.json": "package"}
MAX_FP32 = 1e-5  # largest deviation over the largest value, float32 arithmetic on both sides
MIN_EMULATED_DB = 50.0  # half precision rounded after every operation, as a device does, against float32 arithmetic
# The same 16-bit weights computed in float32 on both sides. In Gemma's graph sqrt(hidden) is a half-precision constant, 2e-4 off.
MIN_WIDENED_DB = {"text_encoder": 70.0, "transformer": 90.0, "vae_decoder": 90.0}
STORED = {"int8": "INT8", "fp8": "FLOAT8E4M3FN"}


def write(component: Component, precision: str, folder: Path, dtype: str | None = None) -> ComponentRecord:
    folder.mkdir(parents=True)
    target = TARGET
    if dtype is not None:
        target = dataclasses.replace(target, offers={precision: dataclasses.replace(target.offers[precision], graph=dtype)})
    options = {"deployment_target": "iOS27", "compute_unit": "gpu"}
    return to_coreai.EXPORTER.write_component(component, target, precision, options, folder)


def run(record: ComponentRecord, folder: Path, feeds: dict[str, Array], widen: bool = True) -> Array:
    asset = (folder / record.parts[0].graph).parent
    session = CoreAISession(asset, record.inputs, record.outputs, widen)
    return session.run(feeds)[record.outputs[0].name]


def expect(component: Component, feeds: dict[str, Array], dtype: str = "fp32") -> Array:
    return TorchSession(component, fake=True, dtype=dtype).run(feeds)[component.outputs[0].name]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


Make = Callable[[str], tuple[ComponentRecord, Path]]  # given a role


@pytest.fixture(scope="module")
def half(tiny_special: Student, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The tiny student's assets in half precision, each written by the first test that asks for it."""

    @cache
    def make(role: str) -> tuple[ComponentRecord, Path]:
        folder = tmp_path_factory.mktemp("half") / role
        return write(tiny_special.components[role], "fp16", folder), folder

    return make


@pytest.mark.parametrize("role", ROLES)
def test_fp32_is_torch(tiny_special: Student, tiny_feeds: dict[str, dict[str, Array]], role: str, tmp_path: Path) -> None:
    component = tiny_special.components[role]
    record = write(component, "fp32", tmp_path / role)
    files = {path.relative_to(tmp_path / role) for path in (tmp_path / role).rglob("*") if path.is_file()}
    assert {path.as_posix(): to_coreai.EXPORTER.kind_of(path) for path in files} == FILES
    assert to_coreai.EXPORTER.kind_of(Path("config.json")) is None
    assert set(record.precision_counts) == {"FLOAT"}
    deviation = relative_error(run(record, tmp_path / role, tiny_feeds[role]), expect(component, tiny_feeds[role]))
    assert deviation <= MAX_FP32, f"{role}: {deviation:.1e} of the range, tolerance {MAX_FP32:.0e}"


@pytest.mark.parametrize("role", ROLES)
def test_names_stay_and_integers_become_32_bits(tiny_special: Student, role: str, half: Make) -> None:
    component = tiny_special.components[role]
    record, folder = half(role)
    assert record.parts[0].graph == "model.aimodel/main.mlirb"
    assert (record.parts[0].inputs, record.parts[0].outputs) == (record.inputs, record.outputs)
    assert record.outputs == component.outputs
    wanted = {spec.name: "int32" if spec.dtype == "int64" else "float32" for spec in component.inputs}
    assert {spec.name: spec.dtype for spec in record.inputs} == wanted
    summary: Any = _open(folder).summary()
    found = {name: kind.partition("(")[2].partition(",")[0].lower() for name, kind in summary.function_inputs("main")}
    assert found == wanted, "the file says what the record says"
    assert set(record.precision_counts) <= {"FLOAT16", "FLOAT"}
    assert record.precision_counts["FLOAT16"] > 100 * record.precision_counts.get("FLOAT", 0)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_quantized_layers_are_stored_in_8_bits_and_computed_as_the_reference_does(
    tiny_special: Student, tiny_feeds: dict[str, dict[str, Array]], precision: str, role: str, half: Make, tmp_path: Path
) -> None:
    component = quantize(tiny_special, "coreai", precision).components[role]
    assert component.layers
    assert all(layer.input_amax is None for layer in component.layers.values()), "weights only"
    record, (plain, plain_folder) = write(component, precision, tmp_path / "small"), half(role)
    counts = record.precision_counts
    values = sum(component.weights[f"{name}.weight"].load().numel() for name in component.layers)
    assert counts[STORED[precision]] == values, "each layer once: not unpacked, not repeated"
    saved = size_of(plain_folder) - size_of(tmp_path / "small")
    assert saved >= 0.8 * values, f"{values} values went from 2 bytes to 1, the asset shrank by {saved}"
    assert set(plain.precision_counts) <= {"FLOAT16", "FLOAT"}
    found = run(record, tmp_path / "small", tiny_feeds[role])
    quality = snr_db(found, expect(component, tiny_feeds[role], "fp16"))
    assert quality >= MIN_WIDENED_DB[role], f"{role}: {quality:.1f} dB, at least {MIN_WIDENED_DB[role]}"


@pytest.mark.parametrize("precision", ["int8", "fp8", "w8a8"])
def test_every_kind_of_layer_with_and_without_rounded_inputs(precision: str, tmp_path: Path) -> None:
    """In float32 the asset agrees with fake-quantized torch to the last digits, activations too."""
    component = quantize_small(precision, "fp32", 0)
    weights_only = {name: dataclasses.replace(layer, input_amax=None) for name, layer in component.layers.items()}
    for name, layers in (("both", component.layers), ("weights", weights_only)):
        chosen = dataclasses.replace(component, layers=layers)
        record = write(chosen, precision, tmp_path / name, "fp32")
        deviation = relative_error(run(record, tmp_path / name, small_feeds()), expect(chosen, small_feeds()))
        assert deviation <= MAX_FP32, f"{name}: {deviation:.1e} of the range, tolerance {MAX_FP32:.0e}"
        kinds = dict(_open(tmp_path / name).summary().operation_distribution)
        assert kinds["blockwise_shift_scale"] == len(layers)
        assert ("quantize" in kinds) == (name == "both")


def test_half_precision_as_a_device_rounds_it(tmp_path: Path) -> None:
    """The runtime emulates every rounding; so slowly that only a small graph is run."""
    component = quantize_small("w8a8", "fp16", 0)
    component = dataclasses.replace(
        component, layers={name: dataclasses.replace(layer, input_amax=None) for name, layer in component.layers.items()}
    )
    record = write(component, "int8", tmp_path / "small")
    wanted = expect(component, small_feeds(), "fp16")
    emulated = snr_db(run(record, tmp_path / "small", small_feeds(), widen=False), wanted)
    widened = snr_db(run(record, tmp_path / "small", small_feeds()), wanted)
    assert emulated >= MIN_EMULATED_DB, f"{emulated:.1f} dB, at least {MIN_EMULATED_DB}"
    assert widened >= MIN_WIDENED_DB["vae_decoder"], f"{widened:.1f} dB, at least {MIN_WIDENED_DB['vae_decoder']}"
    assert widened > emulated + 20, "the two compute differently"


def test_a_widened_copy_keeps_the_smallest_numbers(tmp_path: Path) -> None:
    """The compiler's own cast of constants turns 6.0e-5 into 2.4e-7; Gemma's weights, scaled down, are full of such values."""
    component = small_component()
    tiny = {name: LazyHandle(h.shape, h.dtype, lambda h=h: h.load() * 1e-4) for name, h in component.weights.items()}  # type: ignore[misc]  # a lambda's default has no type
    component = dataclasses.replace(component, weights={**component.weights, "conv.weight": tiny["conv.weight"]})
    record = write(component, "fp16", tmp_path / "small")
    quality = snr_db(run(record, tmp_path / "small", small_feeds()), expect(component, small_feeds(), "fp16"))
    assert quality >= MIN_WIDENED_DB["vae_decoder"], f"{quality:.1f} dB, at least {MIN_WIDENED_DB['vae_decoder']}"


def test_a_linear_over_a_picture_is_stored_once(tiny_special: Student, tmp_path: Path) -> None:
    """DC-AE's attention projects [B, h, w, C]; torch's own decomposition repeats the weight h times."""
    component = tiny_special.components["vae_decoder"]
    values = sum(handle.load().numel() for handle in component.weights.values())
    stored = sum(write(component, "fp16", tmp_path / "decoder").precision_counts.values())
    assert stored <= 1.01 * values, f"{stored} values stored, the decoder has {values}"


@pytest.mark.parametrize("name", ["w4a16", "p6a16"])
def test_a_precision_the_format_is_not_written_with_is_refused(name: str, tmp_path: Path) -> None:
    layer = QuantizedLayer(name, None, 0, "fp16", 16)
    component = dataclasses.replace(small_component(), layers={"left": layer})
    with pytest.raises(
        InputError,
        match=f"^layer 'left' is quantized to {name}, expected 8 bits with one scale for each output channel and, where inputs "
        "are rounded, one for those: that is what .aimodel files are written with; use a coreml target, or change the recipe$",
    ):
        write(component, "int8", tmp_path / "small")


def test_a_component_without_specs_is_refused(tmp_path: Path) -> None:
    bare = dataclasses.replace(small_component(), inputs=())
    with pytest.raises(InputError, match=r"^vae_decoder has no input specs; call specialize_student before exporting$"):
        write(bare, "fp32", tmp_path / "small")


def test_nothing_is_printed_and_no_path_of_this_machine_is_in_the_asset(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(small_component(), "fp32", tmp_path / "small")
    assert capfd.readouterr().out == ""
    program = (tmp_path / "small" / "model.aimodel" / "main.mlirb").read_bytes()
    assert b".py" not in program
    assert str(Path(__file__).parents[3]).encode() not in program


def _open(folder: Path) -> Any:
    from coreai.authoring import AIModelAsset

    return AIModelAsset.load(folder / "model.aimodel")
