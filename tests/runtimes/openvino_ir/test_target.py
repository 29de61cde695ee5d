"""OpenVINO here: INT8 is really multiplied as INT8, devices are named and never replaced, and bad input is said clearly."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sprint_export.conversion import convert
from sprint_export.devices import find_device
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.export.bundle import read_bundle
from sprint_export.export.to_openvino.writer import EXPORTER
from sprint_export.libraries import require
from sprint_export.nouns.student import Component, Student, TensorSpec
from sprint_export.options import complete_options
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.runtimes import open_bundle
from sprint_export.runtimes.openvino_ir.runtime import RUNTIME, OpenVinoSession, give_hints
from sprint_export.runtimes.openvino_ir.target import TARGET
from tests.bundles import read_rows
from tests.export.to_onnx.graphs import quantize_small, small_component, small_feeds
from tests.made_student import snr_db
from tests.tree import ROLES, ROOT

pytest.importorskip("openvino")
DENSE = ("conv", "point", "left", "right", "out")  # of tests.export.to_onnx.graphs.Small


def write(component: Component, precision: str, folder: Path, unit: str = "cpu") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    EXPORTER.write_component(component, TARGET, precision, {"compute_unit": unit}, folder)
    return folder / "openvino_model.xml"


def open_small(path: Path) -> OpenVinoSession:
    component = small_component()
    session = RUNTIME.open_session(path, component.inputs, component.outputs)
    assert isinstance(session, OpenVinoSession)
    return session


@pytest.fixture(scope="module")
def small_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(quantize_small("w8a8", "fp16", 0), "int8", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def made_bundle(made: Student, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student these tests did not make, from its folder to a validated bundle."""
    folder = tmp_path_factory.mktemp("made") / "bundle"
    convert(made, "openvino-int8", folder, prompts=["a red circle", "a blue square"], gates=["psnr_db>=20"])
    return folder


def test_models_take_the_threads_that_are_asked_for_and_devices_without_any_refuse(small_int8: Path) -> None:
    component = small_component()
    session: Any = RUNTIME.limit_threads(1).open_session(small_int8, component.inputs, component.outputs)
    assert session._model.get_property("INFERENCE_NUM_THREADS") == 1
    with pytest.raises(RefusedError, match="OpenVINO NPU cannot be told how many threads"):
        give_hints("NPU", 1)


def test_every_quantized_layer_multiplies_in_int8(small_int8: Path) -> None:
    layers = open_small(small_int8).multiplying_layers()
    kinds = [kind for _, _, kind in layers]
    assert kinds.count("int8") == len(DENSE), layers
    assert len(layers) == len(DENSE) + 1, "the depthwise convolution alone stays in float"


def test_a_float_network_has_no_int8(tmp_path: Path) -> None:
    layers = open_small(write(small_component(), "fp16", tmp_path)).multiplying_layers()
    assert len(layers) == len(DENSE) + 1
    assert "int8" not in {kind for _, _, kind in layers}


def test_the_made_student_multiplies_in_int8(made_bundle: Path) -> None:
    bundle = read_bundle(made_bundle)
    for record in bundle.components:
        session = RUNTIME.open_session(made_bundle / record.role / "openvino_model.xml", record.inputs, record.outputs)
        assert isinstance(session, OpenVinoSession)
        layers = session.multiplying_layers()
        found = sum(kind == "int8" for _, _, kind in layers)
        assert found == len(record.layers) > 0, f"{record.role}: {found} of {len(record.layers)} in int8: {layers}"


def test_the_report_has_figures_that_mean_something(made_bundle: Path) -> None:
    rows = read_rows(made_bundle)
    for role in ROLES:
        assert 30 < rows[role, "converter_psnr_db"]["value"] < 120, role
        assert rows[role, "kernels_int8"]["value"] == len(
            next(c for c in read_bundle(made_bundle).components if c.role == role).layers
        )
        assert rows[role, "load_s"]["value"] > 0
    assert 20 < rows["", "psnr_db"]["value"] < 80
    assert (made_bundle / "contact_sheet.png").stat().st_size > 1000


def test_a_bundle_opens_and_draws_the_same_twice(made_bundle: Path) -> None:
    pipe = open_bundle(made_bundle)
    picture = pipe(["a red circle"], seed=1)
    assert pipe.description.startswith("OpenVINO ")
    assert pipe.description.endswith((" CPU, f32 where not int8", " CPU, bf16 where not int8"))
    assert picture.dtype == np.uint8
    assert picture.std() > 5, "a flat picture proves nothing"
    np.testing.assert_array_equal(picture, pipe(["a red circle"], seed=1))


def test_a_result_is_not_overwritten_by_the_next(small_int8: Path) -> None:
    session = open_small(small_int8)
    first = session.run(small_feeds())["image"]
    before = first.copy()
    session.run({"latents": -small_feeds()["latents"]})
    np.testing.assert_array_equal(first, before)


def test_it_computes_what_torch_computes(small_int8: Path) -> None:
    wanted = TorchSession(quantize_small("w8a8", "fp16", 0), fake=True, dtype="fp16").run(small_feeds())["image"]
    found = snr_db(open_small(small_int8).run(small_feeds())["image"], wanted)
    assert found >= 30, f"{found:.1f} dB, at least 30: bfloat16 between the layers where the CPU has it"


INTERRUPTED = """
import gc, signal, sys
from pathlib import Path
from sprint_export.runtimes.openvino_ir.runtime import RUNTIME
from tests.export.to_onnx.graphs import small_component
component = small_component()
first, second = (RUNTIME.open_session(Path(sys.argv[1]), component.inputs, component.outputs) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_after_two_sessions_is_an_interrupt_and_no_crash(small_int8: Path) -> None:
    """Closed in the order they were opened, as a pipeline's are; in a process of its own, since what fails ends it."""
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{INTERRUPTED}"
    command = [sys.executable, "-c", code, str(small_int8)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr[-500:]


@pytest.mark.parametrize("unit", ["gpu", "npu"])
def test_an_absent_device_is_not_replaced_by_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    path = write(small_component(), "fp16", tmp_path, unit)
    monkeypatch.setattr("openvino.Core.available_devices", property(lambda core: ["CPU"]), raising=True)
    with pytest.raises(MachineError) as caught:
        open_small(path)
    assert str(caught.value) == (
        f"OpenVINO finds no {unit.upper()} here, it has: CPU; install the device's driver, or export with --device cpu"
    )
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(("device", "unit"), [("cpu", "cpu"), ("intel-gpu", "gpu"), ("intel-npu", "npu")])
def test_the_device_says_where_it_runs(device: str, unit: str) -> None:
    for precision in TARGET.precisions:
        assert TARGET.refuses(precision, find_device(device)) is None
        assert complete_options(TARGET, precision, find_device(device), {}) == {"compute_unit": unit, "dynamic": False}


@pytest.mark.parametrize(("device", "instead"), [("rtx-4090", "trt-int8"), ("iphone-16", "coreml-int8")])
def test_other_makers_devices_are_refused_with_what_serves_them(device: str, instead: str) -> None:
    with pytest.raises(RefusedError) as caught:
        convert("sprint-tiny", "openvino-int8", device=device)
    assert str(caught.value) == (
        f"openvino-int8 --device {device}: OpenVINO runs on CPUs and Intel's devices and {device} is none; choose from: "
        "core-ultra-7-258v, cpu, "
        f"intel-gpu, intel-npu; or use {instead}"
    )


def test_an_option_of_other_targets_is_refused() -> None:
    with pytest.raises(InputError, match=r"part_megabytes=5 \(--part-mb\): openvino targets have no such option; .* for coreml"):
        complete_options(TARGET, "int8", find_device("cpu"), {"part_megabytes": 5})
    with pytest.raises(InputError, match="unknown compute unit 'neural-engine'; choose from: cpu, gpu, npu"):
        complete_options(TARGET, "int8", find_device("cpu"), {"compute_unit": "neural-engine"})


def test_a_damaged_ir_is_said(small_int8: Path, tmp_path: Path) -> None:
    path = tmp_path / "openvino_model.xml"
    path.write_text(small_int8.read_text()[:500])
    with pytest.raises(BundleError, match=r"OpenVINO cannot read .*openvino_model\.xml: "):
        open_small(path)


def test_an_ir_without_its_weights_is_said(small_int8: Path, tmp_path: Path) -> None:
    path = tmp_path / "openvino_model.xml"
    path.write_bytes(small_int8.read_bytes())
    with pytest.raises(BundleError, match=r"OpenVINO cannot read .*openvino_model\.xml: "):
        open_small(path)


def test_an_ir_of_another_network_is_said(small_int8: Path) -> None:
    component = small_component()
    inputs = (dataclasses.replace(component.inputs[0], name="pixels"),)
    with pytest.raises(BundleError, match=r"has inputs \['latents'\], the manifest says \['pixels'\]; export the student again"):
        RUNTIME.open_session(small_int8, inputs, component.outputs)


def test_an_ir_for_an_unknown_unit_is_said(small_int8: Path, tmp_path: Path) -> None:
    path = tmp_path / "openvino_model.xml"
    text = small_int8.read_text()
    assert '<compute_unit value="cpu"' in text
    path.write_text(text.replace('<compute_unit value="cpu"', '<compute_unit value="abacus"'))
    path.with_suffix(".bin").write_bytes(small_int8.with_suffix(".bin").read_bytes())
    with pytest.raises(BundleError, match="is made for 'abacus'; expected one of cpu, gpu, npu; export the student again"):
        open_small(path)


def test_without_openvino_it_says_what_to_install(small_int8: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MachineError, match=r"openvino is not installed; run: pip install 'sprint-export\[openvino\]'"):
        open_small(small_int8)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert RUNTIME.can_run() == "openvino is not installed; run: pip install 'sprint-export[openvino]'"


def write_rows(path: Path) -> Path:
    """y = table[x] for a table of five rows."""
    openvino, ops = require("openvino", "openvino"), require("openvino.opset13", "openvino")
    given = ops.parameter([4], np.int64, name="x")
    given.output(0).set_names({"x"})
    rows = ops.gather(ops.constant(np.arange(15, dtype=np.float32).reshape(5, 3)), given, ops.constant(0))
    rows.output(0).set_names({"y"})
    model = openvino.Model([ops.result(rows)], [given])
    model.set_rt_info("cpu", ["sprint_export", "compute_unit"])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


ROWS = (TensorSpec("x", "int64", (4,), ""),), (TensorSpec("y", "float32", (4, 3), ""),)


def test_ids_beyond_a_table_are_an_error_and_not_zeros(tmp_path: Path) -> None:
    session = RUNTIME.open_session(write_rows(tmp_path / "model.xml"), *ROWS)
    assert session.run({"x": np.array([0, 1, 2, 4])})["y"][3, 2] == 14
    for bad in (5, 10**6, -1):
        with pytest.raises(BundleError, match=r"model\.xml: 'x' holds ids from .*, its table has 5 rows"):
            session.run({"x": np.array([0, 1, 2, bad])})


def test_another_type_or_shape_is_said_when_it_is_opened(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "model.xml")
    for inputs, outputs, part in (
        ((TensorSpec("x", "int32", (4,), ""),), ROWS[1], r"'x' as int64 \[4\], the manifest says int32 \[4\]"),
        (ROWS[0], (TensorSpec("y", "float32", (4, 5), ""),), r"'y' as float32 \[4, 3\], the manifest says float32 \[4, 5\]"),
    ):
        with pytest.raises(BundleError, match=part):
            RUNTIME.open_session(path, inputs, outputs)


def test_what_fails_while_it_runs_is_one_line(tmp_path: Path) -> None:
    session = RUNTIME.open_session(write_rows(tmp_path / "model.xml"), *ROWS)
    with pytest.raises(BundleError, match=r"OpenVINO cannot run .*model\.xml: ") as caught:
        session.run({"x": np.array([[1]])})
    assert "\n" not in str(caught.value)
