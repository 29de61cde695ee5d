"""Target trt: real engine builds without a GPU, refusals, errors; running an engine against a stand-in for the GPU."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from sprint_export.devices import find_device, list_devices
from sprint_export.errors import BundleError, InputError, MachineError, RefusedError
from sprint_export.nouns.student import TensorSpec
from sprint_export.options import complete_options
from sprint_export.runtimes.trt import compiling
from sprint_export.runtimes.trt import runtime as trt_runtime
from sprint_export.runtimes.trt import session as engine_session
from sprint_export.runtimes.trt import target as trt_target
from sprint_export.runtimes.trt.runtime import RUNTIME
from sprint_export.runtimes.trt.session import EngineSession
from sprint_export.runtimes.trt.target import TARGET
from tests import small_graphs

pytest.importorskip("tensorrt_rtx")
RTX_4090 = find_device("rtx-4090")
CARDS = ", ".join(device.name for device in list_devices() if device.name.startswith("rtx-"))


def build(graph: Path, device: str = "rtx-4090", builder: str = "tensorrt-rtx") -> tuple[Path, Path]:
    files = TARGET.build(graph, find_device(device), builder, lambda message: None)
    return files["engine"], files["kernels"]


@pytest.mark.parametrize(
    ("precision", "device", "reason"),
    [
        ("bf16", "rtx-4090", None),
        ("int8", "rtx-3090", None),
        ("fp8", "rtx-5090", None),
        ("fp8", "rtx-3090", "FP8 needs compute capability 8.9 or newer; rtx-3090 has 8.6; use trt-int8"),
        ("fp8", "rtx-2080-ti", "FP8 needs compute capability 8.9 or newer; rtx-2080-ti has 7.5; use onnx-int8"),
        (
            "bf16",
            "rtx-2080-ti",
            "bf16, which trt-bf16 graphs compute in, needs compute capability 8.0 or newer; rtx-2080-ti has 7.5; use onnx-int8",
        ),
        (
            "int8",
            "cpu",
            "trt builds for compute capability 7.5, 8.0, 8.6, 8.9, 12.0, 12.1; cpu has no compute capability "
            f"(no NVIDIA GPU); choose a device from: {CARDS}",
        ),
        ("int4", "rtx-4090", "trt has no precision 'int4'; choose from: bf16, int8, fp8, fp8a16, w4a16"),
    ],
)
def test_refusals_name_what_is_needed_and_what_can(precision: str, device: str, reason: str | None) -> None:
    assert TARGET.refuses(precision, find_device(device)) == reason


def test_the_target_says_what_every_precision_computes_in() -> None:
    assert set(TARGET.graph_dtype) == set(TARGET.precisions)
    assert find_device(TARGET.default_device).compute_capability == (8, 9)


def test_a_build_leaves_an_engine_and_its_table_beside_the_graph(tmp_path: Path) -> None:
    messages: list[str] = []
    graph = small_graphs.save_mlp(tmp_path / "model.onnx")
    files = TARGET.build(graph, RTX_4090, "tensorrt-rtx", messages.append)
    engine, table = files["engine"], files["kernels"]
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.sm89.engine", "model.sm89.layers.txt"}
    assert (engine.name, table.name) == ("model.sm89.engine", "model.sm89.layers.txt")
    assert engine.read_bytes()[:4] == b"vtrt"
    assert table.read_text("utf-8").startswith("Layers:\nName: ")
    assert messages[0] == "reading model.onnx"
    assert messages[-1].startswith("built model.sm89.engine, 0.1 MB in ")


def test_one_graph_gives_one_engine_byte_for_byte(tmp_path: Path) -> None:
    graph = small_graphs.save_fp8_linear(tmp_path / "model.onnx")
    first = build(graph)[0].read_bytes()
    build(small_graphs.save_attention(tmp_path / "other.onnx"))  # what was built before leaves no trace
    moved = tmp_path / "elsewhere" / "renamed.onnx"
    moved.parent.mkdir()
    moved.write_bytes(graph.read_bytes())
    assert build(graph)[0].read_bytes() == first
    assert build(moved)[0].read_bytes() == first


def test_the_device_decides_the_file_name_and_the_code(tmp_path: Path) -> None:
    graph = small_graphs.save_mlp(tmp_path / "model.onnx")
    assert build(graph, "rtx-3090")[0].name == "model.sm86.engine"
    assert build(graph, "rtx-5090")[0].name == "model.sm120.engine"
    assert (tmp_path / "model.sm86.engine").read_bytes() != (tmp_path / "model.sm120.engine").read_bytes()


def test_builds_in_threads_keep_their_tables_apart(tmp_path: Path) -> None:
    graphs = [small_graphs.save_mlp(tmp_path / "a.onnx"), small_graphs.save_attention(tmp_path / "b.onnx")]
    threads = [threading.Thread(target=build, args=(graph,)) for graph in graphs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "_gemm_mha" not in (tmp_path / "a.sm89.layers.txt").read_text("utf-8")
    assert "_gemm_mha" in (tmp_path / "b.sm89.layers.txt").read_text("utf-8")


def save_beside(graph: Path, **changes: str) -> Path:
    """The graph with its weights in a file beside it, and what it says of the first of them changed."""
    model = onnx.load(graph)
    path = graph.with_name("beside.onnx")
    onnx.save_model(model, path, save_as_external_data=True, location="beside.onnx.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in next(tensor for tensor in model.graph.initializer if tensor.external_data).external_data:
        entry.value = changes.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    graph.unlink()
    return path


def test_weights_beside_the_graph_give_the_same_engine(tmp_path: Path) -> None:
    graph = small_graphs.save_mlp(tmp_path / "model.onnx")
    inside = build(graph)[0].read_bytes()
    assert build(save_beside(graph))[0].read_bytes() == inside


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"location": "../beside.onnx.data"}, "is no file in"),
        ({"location": "nothing.data"}, "'nothing.data', which is no file in"),
        ({"offset": "100000000"}, "and the graph reads up to 1000"),
        ({"offset": "-4096"}, "cannot read|bytes, and the graph reads"),
        ({"length": "4"}, "cannot read"),
        ({"length": "99999999999"}, "and the graph reads up to 99999999999"),
        ({"offset": "many"}, "cannot read"),
    ],
)
def test_weights_are_not_read_beyond_their_file(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    graph = save_beside(small_graphs.save_mlp(tmp_path / "model.onnx"), **changes)
    with pytest.raises(InputError, match=reason):
        build(graph)
    assert {path.name for path in tmp_path.iterdir()} == {"beside.onnx", "beside.onnx.data"}


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graphs.save_linear(tmp_path / "g.onnx")

    class Full:
        def write(self, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    open_writer = compiling._open_writer
    monkeypatch.setattr(compiling, "_open_writer", lambda trt, file: open_writer(trt, Full()))
    with pytest.raises(MachineError, match=r"the disk is full .* while writing .*g\.sm89\.engine"):
        build(graph)
    assert [path.name for path in tmp_path.iterdir()] == ["g.onnx"]


def check_fails(tmp_path: Path, graph: Path, *parts: str) -> None:
    with pytest.raises(InputError) as caught:
        build(graph)
    for part in (str(graph), *parts):
        assert part in str(caught.value)
    assert "cudaError" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != graph.name] == []


def test_a_parser_error_names_the_node_and_the_types(tmp_path: Path) -> None:
    graph = small_graphs.save_mixed_types(tmp_path / "g.onnx")
    check_fails(
        tmp_path, graph, "TensorRT cannot read", "node 'the_add' (Add): ", "must have same input types", "BFloat16 and Float"
    )


def test_a_free_axis_is_refused_with_its_name_and_shape(tmp_path: Path) -> None:
    graph = small_graphs.save_free_axis(tmp_path / "g.onnx")
    check_fails(tmp_path, graph, "input 'x' has free axes, shape [-1, 128]", "export with fixed shapes")


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    graph = tmp_path / "g.onnx"
    graph.write_bytes(b"hello world")
    check_fails(tmp_path, graph, "it holds no graph with outputs; is it an ONNX file?")


def test_a_graph_the_device_cannot_compute_is_refused_by_the_builder(tmp_path: Path) -> None:
    graph = small_graphs.save_fp8_linear(tmp_path / "g.onnx")
    with pytest.raises(InputError, match=r"TensorRT cannot compile .*g\.onnx for rtx-3090: .+"):
        build(graph, "rtx-3090")


def test_wrong_arguments_say_what_to_do(tmp_path: Path) -> None:
    graph = small_graphs.save_linear(tmp_path / "g.onnx")
    with pytest.raises(InputError, match=r"unknown builder 'trtexec'; choose from: tensorrt, tensorrt-rtx"):
        complete_options(TARGET, "fp8", RTX_4090, {"builder": "trtexec"})
    with pytest.raises(RefusedError, match="cpu has no compute capability"):
        build(graph, "cpu")
    with pytest.raises(InputError, match=r"no ONNX graph at .*nothing\.onnx; export the student first"):
        build(tmp_path / "nothing.onnx")


def test_the_classic_builder_needs_the_gpu_it_builds_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_graphs.save_linear(tmp_path / "g.onnx")
    for gpus, found in [((), "no NVIDIA GPU or no driver"), (((8, 6),), "GPUs of compute capability 8.6")]:
        monkeypatch.setattr(trt_target, "find_gpus", lambda gpus=gpus: gpus)
        with pytest.raises(MachineError) as caught:
            build(graph, builder="tensorrt")
        assert str(caught.value) == (
            "builder 'tensorrt' builds only on the GPU it builds for; rtx-4090 has compute capability 8.9, this "
            f"machine has {found}; use --builder tensorrt-rtx, which needs no GPU"
        )


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    graph = small_graphs.save_linear(tmp_path / "g.onnx")
    (tmp_path / "g.sm89.engine").mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(MachineError, match=r"cannot write to .*g\.sm89\.engine \(Is a directory\); make room or change"):
        build(graph)
    assert not list(tmp_path.glob(".*"))


SPECS = (TensorSpec("x", "float32", (2, 3), "in"),), (TensorSpec("y", "float32", (2, 3), "out"),)


def test_without_a_gpu_an_engine_says_why_it_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = build(small_graphs.save_linear(tmp_path / "g.onnx"))
    monkeypatch.setattr(trt_runtime, "find_gpus", lambda: ())
    reason = "no NVIDIA GPU or no driver (libcuda lists no device)"
    assert RUNTIME.can_run() == reason
    with pytest.raises(MachineError) as caught:
        RUNTIME.open_session(engine, *SPECS)
    assert str(caught.value) == f"g.sm89.engine cannot run here: {reason}; run it on the RTX PC it was built for"


@pytest.mark.parametrize(("content", "found"), [(None, "no file"), (b"PK\x03\x04....", r"b'PK\x03\x04'")])
def test_what_is_no_engine_is_refused(tmp_path: Path, content: bytes | None, found: str) -> None:
    path = tmp_path / "g.engine"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        RUNTIME.open_session(path, *SPECS)
    assert str(caught.value) == f"{path}: expected a TensorRT engine, found {found}; build it again"


class StandInGpu:
    """What EngineSession asks of TensorRT and of the CUDA runtime, on host memory: y = 2 x."""

    __name__, __version__ = "tensorrt_rtx", "0.0"
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815 - CUDA's name
    num_io_tensors = 2

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.addresses: dict[str, int] = {}
        self.streams = 0

    def Runtime(self, log: Any) -> StandInGpu:  # noqa: N802 - TensorRT's name
        return self

    def deserialize_cuda_engine(self, data: bytes) -> StandInGpu:
        return self

    def create_execution_context(self) -> StandInGpu:
        return self

    def get_tensor_name(self, i: int) -> str:
        return "xy"[i]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, int]:
        return 2, 3

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        source, target = ((ctypes.c_float * 6).from_address(self.addresses[name]) for name in "xy")
        target[:] = [2 * value for value in source]
        return True

    def cudaStreamCreate(self) -> tuple[int, int]:  # noqa: N802 - CUDA's name
        self.streams += 1
        return 0, 7

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:  # noqa: N802 - CUDA's name
        self.streams -= 1
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:  # noqa: N802 - CUDA's name
        return (0,)

    def cudaMalloc(self, size: int) -> tuple[int, int]:  # noqa: N802 - CUDA's name
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[int]:  # noqa: N802 - CUDA's name
        del self.memory[address]
        return (0,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:  # noqa: N802
        ctypes.memmove(to, source, size)
        return (0,)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandInGpu:
    gpu = StandInGpu()
    log = SimpleNamespace(errors=["wrong version"], clear=lambda: None)
    monkeypatch.setattr(engine_session, "open_log", lambda trt: log)
    return gpu


def open_stand_in(gpu: Any, path: Path) -> EngineSession:
    path.write_bytes(b"vtrt")
    return EngineSession(gpu, gpu, path, *SPECS)


def test_a_session_runs_and_gives_its_memory_back(gpu: StandInGpu, tmp_path: Path) -> None:
    session = open_stand_in(gpu, tmp_path / "g.engine")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = session.run({"x": np.asfortranarray(x)})
    np.testing.assert_array_equal(result["y"], 2 * x)
    assert session.description == "tensorrt_rtx 0.0 GPU"
    assert (len(gpu.memory), gpu.streams) == (2, 1)
    del session
    assert (len(gpu.memory), gpu.streams) == (0, 0)


def test_a_session_checks_what_it_is_fed(gpu: StandInGpu, tmp_path: Path) -> None:
    session = open_stand_in(gpu, tmp_path / "g.engine")
    with pytest.raises(InputError, match=r"input 'x' is missing; expected float32 \[2, 3\], found: z"):
        session.run({"z": np.zeros(1)})
    with pytest.raises(InputError, match=r"input 'x' is float64 \[2\], expected float32 \[2, 3\]"):
        session.run({"x": np.zeros(2)})


def test_a_session_reports_what_the_gpu_reports(gpu: StandInGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Status(int):
        name = "cudaErrorMemoryAllocation"

    with monkeypatch.context() as patch:
        patch.setattr(gpu, "cudaMalloc", lambda size: (Status(2), None))
        with pytest.raises(MachineError, match=r"cudaMalloc failed: cudaErrorMemoryAllocation \(2\); check the GPU"):
            open_stand_in(gpu, tmp_path / "g.engine")
    with monkeypatch.context() as patch:
        patch.setattr(gpu, "deserialize_cuda_engine", lambda data: None)
        with pytest.raises(MachineError, match=r"g\.engine cannot be loaded: wrong version; .* \(here 0\.0\): build"):
            open_stand_in(gpu, tmp_path / "g.engine")
    monkeypatch.setattr(gpu, "get_tensor_shape", lambda name: (2, 4))
    with pytest.raises(BundleError, match=r"its tensors are .*\(2, 4\).*, expected .*\(2, 3\)"):
        open_stand_in(gpu, tmp_path / "g.engine")
