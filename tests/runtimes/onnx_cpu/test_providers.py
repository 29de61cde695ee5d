"""Providers of ONNX Runtime: what is missing is said by name, nothing falls back without a word, nodes on the CPU are counted.

Here the CPU's provider alone is installed; the others are stand-ins (fake_ort.py). What was run for real: docs/providers.md.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from sprint_export.errors import InputError, MachineError, RefusedError, SprintExportError
from sprint_export.export.bundle import read_bundle
from sprint_export.inspection import describe_bundle, list_names
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import TensorSpec
from sprint_export.registry import load_target
from sprint_export.runtimes.onnx_cpu import providers as provider_table
from sprint_export.runtimes.onnx_cpu import runtime as onnx_runtime
from sprint_export.runtimes.onnx_cpu.placement import read_placement
from sprint_export.runtimes.onnx_cpu.providers import PROVIDERS
from sprint_export.runtimes.onnx_cpu.runtime import RUNTIME, OnnxRuntimeSession
from sprint_export.runtimes.open import choose_runtime
from sprint_export.runtimes.runtime import load_runtime
from sprint_export.session import list_findings
from sprint_export.validate.metrics import check_metrics, find_metric
from tests import small_graphs
from tests.bundles import edit_manifest
from tests.runtimes.onnx_cpu.fake_ort import FakeOrt
from tests.small_bundle import make_small_bundle

X, Y = (TensorSpec(name, "float32", (2, 3), "") for name in ("x", "y"))
ONES = {"x": np.ones((2, 3), np.float32)}
CUDA, WEBGPU, PLAIN = "CUDAExecutionProvider", "WebGpuExecutionProvider", "CPUExecutionProvider"


def install(monkeypatch: pytest.MonkeyPatch, ort: FakeOrt, *plugins: str) -> FakeOrt:
    """As if that onnxruntime were installed, and those plugins beside it."""
    monkeypatch.setattr(onnx_runtime, "require", lambda library, extra: ort)
    monkeypatch.setattr(provider_table, "is_installed", lambda module: module in plugins)
    for name in plugins:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(get_library_path=lambda: "/there/lib.so"))
    return ort


def make_bundle(folder: Path, target: str, precision: str) -> Bundle:
    """A manifest of that target; its files are none."""
    make_small_bundle(folder)

    def change(value: dict[str, object]) -> None:
        value |= {"target": target, "precision": precision, "device": "cpu", "options": {"dynamic": False}, "recipe": None}

    edit_manifest(folder, change)
    return read_bundle(folder, verify=False)


def test_a_session_on_a_provider_says_that_every_node_ran_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = install(monkeypatch, FakeOrt([CUDA], placed={CUDA: ["MatMul", "Add"]}))
    session = RUNTIME.on("cuda").open_session(tmp_path / "model.onnx", (X,), (Y,))
    assert session.description == "ONNX Runtime 1.32.0 cuda", "before it ran, nothing is known"
    assert list_findings(session) == []
    np.testing.assert_array_equal(session.run(ONES)["y"], 2)
    assert session.description == "ONNX Runtime 1.32.0 cuda, every node"
    (found,) = list_findings(session)
    assert (found.metric, found.value, found.note) == ("nodes_on_cpu", 0, "of 2 that cuda was to run")
    assert ort.opened[0].has_fallback is False
    assert ort.asked == [(CUDA, {"use_tf32": "0"}), PLAIN], "float32 is float32 there too"
    assert not Path(ort.opened[0].options.profile_file_prefix).parent.exists(), "the profile is gone"
    session.run(ONES)  # profiled once


def test_nodes_that_a_provider_left_to_the_cpu_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeOrt([CUDA], placed={CUDA: ["MatMul"] * 5, PLAIN: ["Cast", "Gather", "Cast"]}))
    session = RUNTIME.on("cuda").open_session(tmp_path / "model.onnx", (X,), (Y,))
    session.run(ONES)
    assert session.description == "ONNX Runtime 1.32.0 cuda, 3 of 8 nodes on the CPU"
    (found,) = list_findings(session)
    assert (found.value, found.note) == (3, "of 8 that cuda was to run: Cast 2, Gather 1")
    row = found.as_row("transformer")
    assert find_metric(row.metric) is not None, "a gate may be put on it"
    check_metrics([row.metric], load_target("onnx"))


def test_a_provider_that_ran_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeOrt([CUDA], placed={PLAIN: ["MatMul"] * 5}))
    session = RUNTIME.on("cuda").open_session(tmp_path / "model.onnx", (X,), (Y,))
    with pytest.raises(MachineError, match=r"cuda ran no node of .*model\.onnx: all 5 ran elsewhere \(CPUExecutionProvider\)"):
        session.run(ONES)


def test_a_session_that_was_made_without_its_provider_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime before 1.25 prints why, and takes the CPU."""
    install(monkeypatch, FakeOrt([WEBGPU], broken=[WEBGPU]))
    with pytest.raises(MachineError, match=r"webgpu cannot run here: no adapter when using .*; leave --provider out"):
        RUNTIME.on("webgpu").open_session(tmp_path / "model.onnx", (X,), (Y,))
    assert capsys.readouterr().out == "", "nothing of that is on the screen"


def test_a_plugin_is_registered_once_and_its_gpu_is_taken_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(WEBGPU, "CPU"), (WEBGPU, "GPU")]
    ort = install(monkeypatch, FakeOrt(devices=found, placed={WEBGPU: ["Add"]}), "onnxruntime_ep_webgpu")
    for _ in range(2):
        RUNTIME.on("webgpu").open_session(tmp_path / "model.onnx", (X,), (Y,)).run(ONES)
    assert ort.registered == {WEBGPU: "/there/lib.so"}
    assert [device.device.type for device in ort.opened[0].options.devices] == ["GPU"]


def test_a_plugin_without_a_device_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeOrt(), "onnxruntime_ep_webgpu")
    with pytest.raises(MachineError, match="onnxruntime_ep_webgpu finds none of its devices on this machine"):
        RUNTIME.on("webgpu").open_session(tmp_path / "model.onnx", (X,), (Y,))


def test_a_plugin_that_cannot_be_loaded_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ort = install(monkeypatch, FakeOrt(), "onnxruntime_ep_nv_tensorrt_rtx")

    def fail(name: str, path: str) -> None:
        raise RuntimeError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ort, "register_execution_provider_library", fail)
    with pytest.raises(MachineError, match=r"tensorrt-rtx cannot be loaded: libcuda\.so\.1: cannot open shared object file"):
        RUNTIME.on("tensorrt-rtx").open_session(tmp_path / "model.onnx", (X,), (Y,))


@pytest.mark.parametrize(
    ("provider", "plugins", "has_plugins", "said"),
    [
        ("cuda", (), True, "and has cpu, directml; for cuda: pip install onnxruntime-gpu in place of onnxruntime"),
        (
            "webgpu",
            (),
            True,
            "for webgpu: pip install onnxruntime-ep-webgpu beside onnxruntime 1.23 or newer, or pip install "
            "onnxruntime-webgpu in place of onnxruntime",
        ),
        ("xnnpack", (), True, "for xnnpack: no package of pip has it: build ONNX Runtime with it"),
        ("coreml", (), True, "for coreml: pip install onnxruntime"),
        ("openvino", ("onnxruntime_ep_openvino",), False, "onnxruntime_ep_openvino is a plugin, which takes onnxruntime 1.23"),
    ],
)
def test_a_provider_that_is_not_installed_is_said_with_what_brings_it(
    provider: str, plugins: tuple[str, ...], has_plugins: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakeOrt(["DmlExecutionProvider"], has_plugins=has_plugins), *plugins)
    monkeypatch.setattr(onnx_runtime, "is_installed", lambda module: True)
    with pytest.raises(MachineError) as caught:
        choose_runtime(make_bundle(tmp_path / "bundle", "onnx", "fp16"), None, provider)
    assert str(caught.value).startswith(
        f"onnx on {provider} cannot run here: onnxruntime 1.32.0 is installed, and has cpu, directml"
    )
    assert said in str(caught.value)
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    ("target", "precision", "runtime", "provider", "kind", "said"),
    [
        ("onnx", "int8", None, "cuda", RefusedError, "onnx-int8 is in a form for CPUs, and cuda .*; use gpu-int8 or onnx-fp16"),
        ("onnx", "fp8", "onnx", "webgpu", RefusedError, "onnx-fp8 is in a form for CPUs, .*CPUs: cpu, openvino, xnnpack"),
        ("onnx", "fp16", None, "cudo", InputError, "unknown provider for onnx bundles: 'cudo'; .*Did you mean 'cuda'"),
        ("openvino", "fp16", None, "cpu", InputError, "runtime openvino has no provider 'cpu'; leave --provider out"),
    ],
)
def test_what_cannot_work_is_refused(
    target: str, precision: str, runtime: str | None, provider: str, kind: type[SprintExportError], said: str, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundle", "onnx", precision)
    if target != "onnx":
        pytest.importorskip("openvino")
        bundle = Bundle(**(vars(bundle) | {"target": target}))
    with pytest.raises(kind, match=said):
        choose_runtime(bundle, runtime, provider)


def test_the_cpu_is_the_default_and_may_be_asked_for(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "onnx", "int8")
    assert choose_runtime(bundle, None) == choose_runtime(bundle, None, "cpu") == load_runtime("onnx")
    assert load_runtime("onnx").title == "onnx"


def test_a_session_on_the_cpu_is_not_profiled(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    path = small_graphs.save_graph(tmp_path / "model.onnx", [node], {"x": [2, 3]}, [2, 3], [], onnx.TensorProto.FLOAT)
    session = OnnxRuntimeSession(path, (X,), (Y,))
    np.testing.assert_array_equal(session.run(ONES)["y"], 2)
    assert list_findings(session) == [] and session.description.endswith(" CPU")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_a_real_profile_names_every_node_that_ran(tmp_path: Path) -> None:
    """Of the installed ONNX Runtime: the form that fake_ort.py stands in for."""
    ort = pytest.importorskip("onnxruntime")
    nodes = [onnx.helper.make_node("Relu", ["x"], ["z"]), onnx.helper.make_node("Exp", ["z"], ["y"])]
    path = small_graphs.save_graph(tmp_path / "model.onnx", nodes, {"x": [2, 3]}, [2, 3], [], onnx.TensorProto.FLOAT)
    options = ort.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = ort.InferenceSession(str(path), options, providers=[PLAIN])
    session.run(None, ONES)
    placement = read_placement(Path(session.end_profiling()))
    assert placement.nodes == {PLAIN: 2} and dict(placement.on_cpu) == {"Relu": 1, "Exp": 1}


def test_a_provider_that_compiles_graphs_takes_the_bundles_own_not_the_shadow() -> None:
    assert {name for name in PROVIDERS if not RUNTIME.on(name).opens_shadows} == {"tensorrt", "tensorrt-rtx"}


def test_providers_are_listed_and_inspect_says_which_are_for_a_bundle(tmp_path: Path) -> None:
    listed = list_names("providers")
    assert set(listed) == set(PROVIDERS)
    assert listed["cuda"] == "NVIDIA GPUs; pip install onnxruntime-gpu in place of onnxruntime (runtime onnx)"
    lines = list(describe_bundle(make_bundle(tmp_path / "int8", "onnx", "int8")))
    assert any(line.startswith("providers: cpu, openvino, xnnpack; not coreml, cuda, ") for line in lines)
    lines = list(describe_bundle(make_bundle(tmp_path / "fp16", "onnx", "fp16")))
    assert not any(line.startswith("providers: ") for line in lines), "any will do"
