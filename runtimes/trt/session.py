"""A TensorRT engine on a GPU. Written without one: tested against a stand-in."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError, InputError, MachineError
from sprint_export.libraries import require
from sprint_export.nouns.student import TensorSpec
from sprint_export.runtimes.trt.library import join_messages, open_log

if TYPE_CHECKING:
    from types import ModuleType

    from sprint_export.session import Array

_DTYPES = {  # TensorRT's name -> numpy's (with ml_dtypes)
    "FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "FP8": "float8_e4m3fn", "INT8": "int8", "UINT8": "uint8",
    "INT32": "int32", "INT64": "int64", "BOOL": "bool",
}  # fmt: skip


class EngineSession:
    """One engine on one GPU with its own stream and a device buffer per tensor, all of fixed size."""

    def __init__(
        self, trt: ModuleType, cuda: ModuleType, engine: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
    ) -> None:
        self.description = f"{trt.__name__} {trt.__version__} GPU"
        self._cuda, self._inputs, self._outputs = cuda, inputs, outputs
        self._log = log = open_log(trt)
        self._runtime = trt.Runtime(log)
        log.clear()
        self._engine = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            raise MachineError(
                f"{engine.name} cannot be loaded: {join_messages(log.errors)}; it is tied to a GPU "
                f"generation and a version of {trt.__name__} (here {trt.__version__}): build it again"
            )
        _check_tensors(self._engine, engine, (*inputs, *outputs))
        self._context = self._engine.create_execution_context()
        self._stream = _call(cuda, "cudaStreamCreate")
        self._buffers: dict[str, int] = {}
        # Before the buffers: what has been taken is given back even when the memory runs out half-way.
        weakref.finalize(self, _release, cuda, self._stream, self._buffers)
        for spec in (*inputs, *outputs):
            self._buffers[spec.name] = _call(cuda, "cudaMalloc", _make_array(spec).nbytes)
            self._context.set_tensor_address(spec.name, self._buffers[spec.name])

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs by name -> outputs by name, with the dtypes and shapes of the specs."""
        import numpy as np

        cuda, host = self._cuda, {}
        kind = cuda.cudaMemcpyKind
        for spec in self._inputs:
            _check_feed(spec, feeds)
            host[spec.name] = np.ascontiguousarray(feeds[spec.name])  # kept alive until the stream is done
            place, array = self._buffers[spec.name], host[spec.name]
            _call(cuda, "cudaMemcpyAsync", place, array.ctypes.data, array.nbytes, kind.cudaMemcpyHostToDevice, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise MachineError(f"{self.description}: the engine did not start: {join_messages(self._log.errors)}")
        results = {spec.name: _make_array(spec) for spec in self._outputs}
        for name, array in results.items():
            _call(
                cuda,
                "cudaMemcpyAsync",
                array.ctypes.data,
                self._buffers[name],
                array.nbytes,
                kind.cudaMemcpyDeviceToHost,
                self._stream,
            )
        _call(cuda, "cudaStreamSynchronize", self._stream)
        return results


def _call(cuda: ModuleType, name: str, *arguments: Any) -> Any:
    """Call the CUDA runtime; its functions return (status, result...)."""
    status, *result = getattr(cuda, name)(*arguments)
    if int(status) != 0:
        raise MachineError(f"{name} failed: {status.name} ({int(status)}); check the GPU with nvidia-smi")
    return result[0] if result else None


def _release(cuda: ModuleType, stream: Any, buffers: Mapping[str, int]) -> None:
    for address in buffers.values():
        cuda.cudaFree(address)
    cuda.cudaStreamDestroy(stream)


def _make_array(spec: TensorSpec) -> Array:
    import numpy as np

    if spec.dtype in ("bfloat16", "float8_e4m3fn"):
        require("ml_dtypes", "trt")  # registers the name with numpy
    return np.empty([int(size) for size in spec.shape], np.dtype(spec.dtype))


def _check_feed(spec: TensorSpec, feeds: Mapping[str, Array]) -> None:
    if spec.name not in feeds:
        raise InputError(
            f"input {spec.name!r} is missing; expected {spec.dtype} {list(spec.shape)}, found: {', '.join(feeds) or '(none)'}"
        )
    found = feeds[spec.name]
    if found.shape != spec.shape or found.dtype.name != spec.dtype:
        raise InputError(
            f"input {spec.name!r} is {found.dtype.name} {list(found.shape)}, expected {spec.dtype} {list(spec.shape)}"
        )


def _check_tensors(engine: Any, path: Path, specs: tuple[TensorSpec, ...]) -> None:
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    found = {n: (_DTYPES.get(engine.get_tensor_dtype(n).name), tuple(engine.get_tensor_shape(n))) for n in names}
    expected = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    if found != expected:
        raise BundleError(f"{path}: its tensors are {found}, expected {expected}; build it again from this bundle")
