"""Compile an ONNX graph into an engine, in the memory of one copy of its weights.

    model.onnx.data -> mapped -> the builder's copy -> a piece at a time -> model.sm89.engine

Pages of the mapped file count as the process's own once they were read, so they are given back while the builder copies: the
disk has them. The engine is never whole in memory beside that copy either, since it is written as a stream; its bytes are those
of a plan in memory. Of three times a text encoder's 3.2 GB one remains (docs/decisions/0032-export.md).
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import InputError
from sprint_export.runtimes.trt.library import join_messages

if TYPE_CHECKING:
    from types import ModuleType

    from sprint_export.nouns.target import Device

GIVE_BACK_S = 0.1  # between two times: a builder copies some 0.1 GB in it


def compile_graph(trt: ModuleType, log: Any, graph: Path, device: Device, engine: Path, tell: Callable[[str], None]) -> None:
    """Write the engine of a graph (with its external data).

    Raises:
        InputError: the builder cannot read the graph, or it has free axes. OSError: the engine cannot be written.
    """
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    with _MappedFiles(graph.parent) as files, files.given_back():
        if not _parse(parser, graph, files) or not network.num_outputs:
            raise InputError(f"TensorRT cannot read {graph}: {_explain_parser(parser)}")
        _check_shapes(network, graph)
        tell(f"compiling {graph.name} for {device.title}: {network.num_layers} layers")
        with engine.open("wb") as file:
            writer = _open_writer(trt, file)
            done = builder.build_serialized_network_to_stream(network, _make_config(trt, builder, device), writer)
        if writer.error is not None:
            raise writer.error
        if not done:
            raise InputError(f"TensorRT cannot compile {graph} for {device.name}: {join_messages(log.errors)}")
        del network, parser  # they point into the files


class _MappedFiles:
    """External data beside a graph, mapped and not read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._mapped: dict[str, tuple[mmap.mmap, Any]] = {}  # with an array over it, which knows its address

    def __enter__(self) -> _MappedFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._mapped.clear()

    def find(self, location: str, offset: int, length: int | None) -> tuple[int, int]:
        """Address and size of a part of a file.

        Raises:
            InputError: the file is not in the folder, or ends before.
        """
        import numpy as np

        if location not in self._mapped:
            path = (self.folder / location).resolve()
            if not path.is_relative_to(self.folder) or not path.is_file():
                raise InputError(f"the graph's weights are in {location!r}, which is no file in {self.folder}; export it again")
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._mapped[location] = mapped, np.frombuffer(mapped, np.uint8)
        array = self._mapped[location][1]
        size = len(array) - offset if length is None else length
        if min(offset, size) < 0 or offset + size > len(array):
            raise InputError(f"{self.folder / location} has {len(array)} bytes, and the graph reads up to {offset + size}")
        return array.ctypes.data + offset, size

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Within it, pages that were read are not kept for long; who reads them again gets them from the disk."""
        done = threading.Event()

        def give_back() -> None:
            while not done.wait(GIVE_BACK_S):
                for mapped, _ in list(self._mapped.values()):
                    mapped.madvise(mmap.MADV_DONTNEED)

        thread = threading.Thread(target=give_back, daemon=True)
        if hasattr(mmap, "MADV_DONTNEED"):  # Windows has no such call
            thread.start()
        try:
            yield
        finally:
            done.set()
            if thread.is_alive():
                thread.join()


def _parse(parser: Any, graph: Path, files: _MappedFiles) -> bool:
    """Fill the parser's network; weights beside the graph are pointed to, not read."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    content = graph.read_bytes()
    try:
        tensors = filter(uses_external_data, onnx.ModelProto.FromString(content).graph.initializer)
        places = {tensor.name: ExternalDataInfo(tensor) for tensor in tensors}
    except (DecodeError, ValueError):  # no graph, or one whose weights are nowhere
        return False
    if not parser.load_model_proto(content, str(graph)):
        return False
    for name, place in places.items():
        if not parser.load_initializer(name, *files.find(place.location, place.offset or 0, place.length)):
            return False
    return bool(parser.parse_model_proto())


def _open_writer(trt: ModuleType, file: Any) -> Any:
    """An IStreamWriter into a file; it keeps what failed, as C++ cannot pass it on."""

    class Writer(trt.IStreamWriter):  # type: ignore[misc, name-defined]  # known at run time only
        def __init__(self) -> None:
            trt.IStreamWriter.__init__(self)
            self.error: OSError | None = None

        def write(self, data: bytes) -> int:
            try:
                return int(file.write(data))
            except OSError as error:
                self.error = error
                return 0

    return Writer()


def _make_config(trt: ModuleType, builder: Any, device: Device) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # shapes and types in the kernel table
    if hasattr(trt, "ComputeCapability"):  # TensorRT for RTX; the classic builder builds for the GPU it runs on
        major, minor = device.compute_capability or (0, 0)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{major}{minor}"), 0)
    return config


def _check_shapes(network: Any, graph: Path) -> None:
    for i in range(network.num_inputs):
        tensor = network.get_input(i)
        if any(size < 0 for size in tensor.shape):
            raise InputError(
                f"{graph}: input {tensor.name!r} has free axes, shape {list(tensor.shape)}; "
                "a trt engine has fixed shapes: export with fixed shapes"
            )


def _explain_parser(parser: Any) -> str:
    if not parser.num_errors:
        return "it holds no graph with outputs; is it an ONNX file?"
    messages = []
    for error in (parser.get_error(i) for i in range(parser.num_errors)):
        at = f"node {error.node_name() or error.node()!r} ({error.node_operator()}): " if error.node() >= 0 else ""
        messages.append(at + error.desc())
    return join_messages(messages)
