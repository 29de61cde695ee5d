"""Target `coreml`: what it refuses, what it fills in, and its session on a Mac, against a stand-in for coremltools."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sprint_export.devices import find_device, list_devices
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.nouns.report import Finding
from sprint_export.nouns.student import TensorSpec
from sprint_export.nouns.target import UNIT_KEY, Options
from sprint_export.options import complete_options
from sprint_export.runtimes.coreml import runtime as coreml_runtime
from sprint_export.runtimes.coreml.package import package_of
from sprint_export.runtimes.coreml.runtime import RUNTIME, UNITS, CoreMLSession
from sprint_export.runtimes.coreml.target import SYSTEMS, TARGET
from tests.made_student import Array

PHONE, MAC = find_device("iphone-15-pro"), find_device("mac-m4")
GRAPH = Path("bundle/transformer/model_2.mlpackage/Data/com.apple.CoreML/model.mlmodel")
INPUTS = (TensorSpec("x", "float32", (1, 4), "in"), TensorSpec("ids", "int32", (1, 2), "in"))
OUTPUTS = (TensorSpec("y", "float32", (1, 4), "out"),)


@pytest.mark.parametrize("device", ["iphone-14", "iphone-15-pro", "iphone-16", "mac-m1", "mac-m4"])
def test_every_precision_runs_on_every_apple_device_but_w8a8_on_old_ones(device: str) -> None:
    refused = {precision: TARGET.refuses(precision, find_device(device)) for precision in TARGET.precisions}
    assert [precision for precision, reason in refused.items() if reason is not None] == (
        ["w8a8"] if device in ("iphone-14", "mac-m1") else []
    )


@pytest.mark.parametrize(
    ("precision", "device", "reason"),
    [
        ("fp8", "mac-m4", "coreml has no precision 'fp8'; choose from: fp32, fp16, int8, w8a8, w6, w4"),
        (
            "int8",
            "rtx-4090",
            "Core ML runs on Apple devices and rtx-4090 is none; choose from: ipad-m4, iphone-14, iphone-15-pro, iphone-16, "
            "iphone-17-pro, mac-m1, mac-m4, macbook-m4, macbook-m4-max; elsewhere use onnx-int8",
        ),
        (
            "w8a8",
            "iphone-14",
            "8-bit arithmetic begins with A17 Pro and M4, iphone-14 has A15 and would run it slower than 16-bit; use coreml-int8"
            ", which stores weights in 8 bits",
        ),
        (
            "w8a8",
            "mac-m1",
            "8-bit arithmetic begins with A17 Pro and M4, mac-m1 has M1 and would run it slower than 16-bit; use coreml-int8"
            ", which stores weights in 8 bits",
        ),
    ],
)
def test_refusals_say_what_is_there_and_what_to_use(precision: str, device: str, reason: str) -> None:
    assert TARGET.refuses(precision, find_device(device)) == reason


def test_the_device_decides_the_unit_and_the_largest_file() -> None:
    assert complete_options(TARGET, "int8", PHONE, {}) == {
        "deployment_target": "iOS18",
        "compute_unit": "neural-engine",
        "part_megabytes": 1000,
    }
    assert complete_options(TARGET, "int8", MAC, {}) == {
        "deployment_target": "iOS18",
        "compute_unit": "gpu",
        "part_megabytes": 2000,
    }
    for device in list_devices():
        if device.apple_chip is not None:
            assert complete_options(TARGET, "fp16", device, {})["compute_unit"] in UNITS, device.name


def test_what_was_chosen_stays() -> None:
    chosen: Options = {"deployment_target": "macOS14", "compute_unit": "cpu", "part_megabytes": 250}
    assert complete_options(TARGET, "w8a8", PHONE, chosen) == chosen
    assert complete_options(TARGET, "fp16", MAC, {"compute_unit": "neural-engine"}) == {
        "deployment_target": "iOS18",
        "compute_unit": "neural-engine",
        "part_megabytes": 2000,
    }
    for system in SYSTEMS:
        assert complete_options(TARGET, "int8", MAC, {"deployment_target": system})["deployment_target"] == system


@pytest.mark.parametrize("system", ["iOS16", "macOS13", "ios18", "Windows"])
def test_a_system_it_cannot_be_made_for_is_refused_with_those_it_can(system: str) -> None:
    message = (
        f"--deployment-target {system}: coreml packages are made for iOS17, iOS18, iOS26, macOS14, macOS15, macOS26; the oldest "
        "of them is the nearest to an older system, where 8-bit weights and activations do not exist"
    )
    with pytest.raises(RefusedError, match=f"^{re.escape(message)}$"):
        complete_options(TARGET, "int8", PHONE, {"deployment_target": system})


@pytest.mark.parametrize("precision", ["w6", "w4"])
@pytest.mark.parametrize("system", ["iOS17", "macOS14"])
def test_palettes_need_a_newer_system(precision: str, system: str) -> None:
    message = (
        f"coreml-{precision} --deployment-target {system}: palettes for groups of channels need iOS18 or macOS15; for {system} "
        "the nearest is coreml-int8"
    )
    with pytest.raises(RefusedError, match=f"^{re.escape(message)}$"):
        complete_options(TARGET, precision, PHONE, {"deployment_target": system})


def test_an_unknown_unit_lists_the_units() -> None:
    said = r"^unknown compute unit 'npu'; choose from: all, cpu, gpu, neural-engine\. Did you mean 'gpu'\?$"
    with pytest.raises(InputError, match=said):
        complete_options(TARGET, "fp16", PHONE, {"compute_unit": "npu"})


def test_a_package_is_found_by_its_program_file() -> None:
    assert package_of(GRAPH) == Path("bundle/transformer/model_2.mlpackage")


def test_it_runs_on_macos_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert RUNTIME.can_run() == "Core ML is part of macOS, this is Linux"
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert RUNTIME.can_run() is None


class StandIn:
    """As much of coremltools as the session uses, noting what it is asked; results are in half precision, as devices' may be."""

    def __init__(self, unit: str | None = "neural-engine", failure: Exception | None = None) -> None:
        self.loaded: list[tuple[str, str]] = []
        self.fed: list[dict[str, Array]] = []
        self.planned: list[tuple[str, str]] = []
        self._failure = failure
        metadata = SimpleNamespace(userDefined={} if unit is None else {UNIT_KEY: unit})
        self.utils = SimpleNamespace(load_spec=lambda path: SimpleNamespace(description=SimpleNamespace(metadata=metadata)))
        self.ComputeUnit = SimpleNamespace(**{name: f"unit {name}" for name in UNITS.values()})
        plan = SimpleNamespace(MLComputePlan=SimpleNamespace(load_from_path=self._load_plan))
        self.models = SimpleNamespace(MLModel=self._load_model, compute_plan=plan)

    def _load_model(self, path: str, compute_units: str) -> Any:
        if self._failure is not None:
            raise self._failure
        self.loaded.append((path, compute_units))
        return SimpleNamespace(predict=self._predict, get_compiled_model_path=lambda: "somewhere.mlmodelc")

    def _predict(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.fed.append(dict(feeds))
        return {"y": np.full((1, 4), 0.5, np.float16), "not asked for": np.zeros(1)}

    def _load_plan(self, path: str, unit: str) -> Any:
        self.planned.append((path, unit))
        used = [MLNeuralEngineComputeDevice(), MLCPUComputeDevice(), MLNeuralEngineComputeDevice(), None]
        block = SimpleNamespace(operations=used)
        structure = SimpleNamespace(program=SimpleNamespace(functions={"main": SimpleNamespace(block=block)}))
        return SimpleNamespace(
            model_structure=structure,
            get_compute_device_usage_for_mlprogram_operation=lambda operation: (
                None if operation is None else SimpleNamespace(preferred_compute_device=operation)
            ),
        )


class MLNeuralEngineComputeDevice:
    """Named as coremltools' own."""


class MLCPUComputeDevice:
    """Named as coremltools' own."""


def open_on(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> CoreMLSession:
    monkeypatch.setattr(coreml_runtime, "require", lambda library, extra: {("coremltools", "coreml"): stand_in}[library, extra])
    monkeypatch.setattr(platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    session = RUNTIME.open_session(GRAPH, INPUTS, OUTPUTS)
    assert isinstance(session, CoreMLSession)
    return session


@pytest.mark.parametrize(
    ("unit", "asked"),
    [("neural-engine", "CPU_AND_NE"), ("gpu", "CPU_AND_GPU"), ("cpu", "CPU_ONLY"), ("all", "ALL"), (None, "ALL")],
)
def test_a_package_is_loaded_once_on_the_unit_it_was_made_for(
    unit: str | None, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = StandIn(unit)
    session = open_on(stand_in, monkeypatch)
    assert stand_in.loaded == [("bundle/transformer/model_2.mlpackage", f"unit {asked}")]
    assert session.description == f"Core ML on macOS 26.1, {unit or 'all'}"


def test_inputs_go_in_and_outputs_come_out_in_the_specs_types(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn()
    session = open_on(stand_in, monkeypatch)
    found = session.run({"x": np.ones((1, 4), np.float64), "ids": np.array([[3, 4]], np.int64), "another": np.zeros(1)})
    (fed,) = stand_in.fed
    assert {name: array.dtype.name for name, array in fed.items()} == {"x": "float32", "ids": "int32"}
    assert fed["ids"].tolist() == [[3, 4]]
    assert list(found) == ["y"]
    assert found["y"].dtype == np.float32, "half precision came out of the device"
    assert found["y"].tolist() == [[0.5] * 4]


def test_findings_are_the_load_and_where_core_ml_plans_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn()
    load, *planned = open_on(stand_in, monkeypatch).findings()
    assert (load.metric, load.unit) == ("load_s", "s")
    assert load.value >= 0
    assert planned == [
        Finding("ops_on_CPU", 1, "", note="Core ML's plan"),
        Finding("ops_on_NeuralEngine", 2, "", note="Core ML's plan"),
    ]
    assert stand_in.planned == [("somewhere.mlmodelc", "unit CPU_AND_NE")]


@pytest.mark.parametrize(
    ("stand_in", "error", "message"),
    [
        (
            StandIn(failure=RuntimeError("compiler said no")),
            BundleError,
            "Core ML cannot load bundle/transformer/model_2.mlpackage: compiler said no",
        ),
        (StandIn("npu"), BundleError, "Core ML cannot load bundle/transformer/model_2.mlpackage: 'npu'"),
        (StandIn(failure=MemoryError()), MachineError, "not enough memory to load bundle/transformer/model_2.mlpackage"),
    ],
)
def test_a_package_that_does_not_load_is_named(
    stand_in: StandIn, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        open_on(stand_in, monkeypatch)


def test_the_stand_in_has_no_name_that_coremltools_lacks() -> None:
    ct = pytest.importorskip("coremltools")
    for unit in UNITS.values():
        assert hasattr(ct.ComputeUnit, unit)
    assert callable(ct.utils.load_spec)
    for owner, names in (
        (ct.models.MLModel, ("predict", "get_compiled_model_path")),
        (
            ct.models.compute_plan.MLComputePlan,
            ("load_from_path", "model_structure", "get_compute_device_usage_for_mlprogram_operation"),
        ),
    ):
        assert all(hasattr(owner, name) for name in names), owner
    for device in (MLNeuralEngineComputeDevice, MLCPUComputeDevice):
        assert hasattr(ct.models.compute_device, device.__name__)
    plan = ct.models.compute_plan
    for kind, field in (
        (plan.MLModelStructure, "program"),
        (plan.MLModelStructureProgram, "functions"),
        (plan.MLModelStructureProgramFunction, "block"),
        (plan.MLModelStructureProgramBlock, "operations"),
        (plan.MLComputePlanDeviceUsage, "preferred_compute_device"),
    ):
        assert field in kind.__dataclass_fields__, kind
