"""Faults that a converter may make, planted into a finished bundle whose manifest is signed again, so that only figures tell.

scale       every scale of a layer's weight times 8
channels    the first two output channels of a layer's weight change places
prefix      another instruction before each prompt, in the manifest alone
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sprint_export.export.bundle import hash_file
from tests.bundles import drop_app, edit_manifest

Array = npt.NDArray[Any]
Change = Callable[[Array], Array]
METADATA = struct.Struct("<IIQQ")  # of a tensor in a Core ML package's weights: sentinel, type, bytes, where they begin


def scale_weight(folder: Path, role: str, layer: str) -> Path:
    """Every scale of a layer's weight times 8."""
    changed = edit_tensors(folder, role, layer, lambda name: ".scale" in name, lambda values: values * values.dtype.type(8))
    assert changed, f"{role}.{layer} has no scale"
    return sign(folder)


def swap_channels(folder: Path, role: str, layer: str, inputs: int) -> Path:
    """The first two output channels of a layer's weight change places; it has so many input channels."""

    def swap(values: Array) -> Array:
        axis = next(axis for axis in range(values.ndim) if values.size // values.shape[axis] == inputs)
        order = [1, 0, *range(2, values.shape[axis])]
        return np.take(values, order, axis)

    def is_weight(name: str) -> bool:
        return not any(part in name for part in (".scale", ".zero", ".bias", ".shape", ".fp32"))

    assert edit_tensors(folder, role, layer, is_weight, swap), f"{role}.{layer} has no weight"
    return sign(folder)


def change_prefix(folder: Path, old: str, new: str) -> Path:
    """Another instruction before each prompt, in the manifest alone."""
    drop_app(folder)

    def change(value: dict[str, Any]) -> None:
        assert old in value["prompt"]["prefix"]
        value["prompt"]["prefix"] = value["prompt"]["prefix"].replace(old, new)

    edit_manifest(folder, change)
    return folder


def sign(folder: Path) -> Path:
    """Make the manifest say of every file what it is now."""
    drop_app(folder)

    def change(value: dict[str, Any]) -> None:
        for artifact in value["artifacts"]:
            path = folder / artifact["path"]
            artifact |= {"sha256": hash_file(path), "bytes": path.stat().st_size}

    edit_manifest(folder, change)
    return folder


def edit_tensors(folder: Path, role: str, layer: str, is_meant: Callable[[str], bool], change: Change) -> int:
    """Change the stored tensors of a layer's weight whose name is meant, in every graph of a network; how many there were."""
    graphs = sorted((folder / role).glob("*.onnx"))
    if graphs:
        done: set[str] = set()
        return sum(_edit_onnx(path, layer, is_meant, change, done) for path in graphs)
    packages = (folder / role).glob("*.mlpackage")
    return sum(_edit_package(package, layer, is_meant, change) for package in packages)


def _edit_onnx(path: Path, layer: str, is_meant: Callable[[str], bool], change: Change, done: set[str]) -> int:
    """`done`: names of tensors in the data file, which several graphs share."""
    model, count = onnx.load(str(path), load_external_data=False), 0
    for tensor in model.graph.initializer:
        if not tensor.name.startswith(f"{layer}.weight") or not is_meant(tensor.name):
            continue
        count += 1
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(change(values), tensor.name))
        elif tensor.name not in done:
            done.add(tensor.name)
            place = {entry.key: entry.value for entry in tensor.external_data}
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            _edit_bytes(path.parent / place["location"], int(place["offset"]), dtype, tuple(tensor.dims), change)
    onnx.save(model, str(path))
    return count


def _edit_package(package: Path, layer: str, is_meant: Callable[[str], bool], change: Change) -> int:
    from sprint_export.runtimes.coreml.mil.program import read_program

    prefix, count = f"p_{layer.replace('.', '_')}_weight", 0
    weights = package / "Data/com.apple.CoreML/weights/weight.bin"
    for constant in list(read_program(package).constants.values()):
        value = constant.value
        if constant.on_disk and value.name.startswith(prefix) and is_meant(value.name):
            stored = constant.load()
            [start] = _find(weights, np.ascontiguousarray(stored).tobytes())
            _edit_bytes(weights, start, stored.dtype, stored.shape, change)
            count += 1
    return count


def _find(weights: Path, content: bytes) -> list[int]:
    """Where tensors of exactly this content begin."""
    data, found, place = weights.read_bytes(), [], 64
    while place + METADATA.size <= len(data):
        sentinel, _, size, start = METADATA.unpack_from(data, place)
        if sentinel != 0xDEADBEEF:
            break
        if size == len(content) and data[start : start + size] == content:
            found.append(start)
        place = -(-(start + size) // 64) * 64
    return found


def _edit_bytes(path: Path, start: int, dtype: Any, shape: tuple[int, ...], change: Change) -> None:
    data = bytearray(path.read_bytes())
    count = int(np.prod(shape))
    values = np.frombuffer(bytes(data), dtype, count, start).reshape(shape)
    content = np.ascontiguousarray(change(values).astype(dtype)).tobytes()
    data[start : start + len(content)] = content
    path.write_bytes(bytes(data))
