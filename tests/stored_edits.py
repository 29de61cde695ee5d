"""Tensors of a finished bundle's files, changed in place by the names that `list_stored` gives them: ONNX, OpenVINO, Core ML."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]
Change = Callable[[Array], Array]
IR_TYPES = {"f32": np.float32, "f16": np.float16, "i8": np.int8, "u8": np.uint8}
BLOB_HEAD, BLOB_START = 64, 16  # bytes before a tensor of a weight.bin, and where in them its offset stands


def edit_tensor(folder: Path, role: str, name: str, change: Change) -> int:
    """Change the stored values of one tensor in every graph of a network; how many graphs had it."""
    done: set[str] = set()
    graphs = sorted((folder / role).glob("*.onnx"))
    counts = [_edit_onnx(path, name, change, done) for path in graphs]
    counts += [_edit_ir(path, name, change) for path in (folder / role).glob("*.xml")]
    counts += [_edit_package(path, name, change) for path in (folder / role).glob("*.mlpackage")]
    return sum(counts)


def _edit_onnx(path: Path, name: str, change: Change, done: set[str]) -> int:
    """`done`: names of tensors in the data file, which several graphs share."""
    model = onnx.load(str(path), load_external_data=False)
    tensor = next((tensor for tensor in model.graph.initializer if tensor.name == name), None)
    if tensor is None:
        return 0
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(change(values).astype(values.dtype), name))
        onnx.save(model, str(path))
    elif name not in done:
        done.add(name)
        place = {entry.key: entry.value for entry in tensor.external_data}
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        _edit_bytes(path.parent / place["location"], int(place["offset"]), dtype, tuple(tensor.dims), change)
    return 1


def _edit_ir(path: Path, name: str, change: Change) -> int:
    for layer in ElementTree.parse(path).iterfind("layers/layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and layer.get("name") == name and data is not None:
            shape = tuple(int(size) for size in data.get("shape", "").split(",") if size.strip())
            dtype = np.dtype(IR_TYPES[data.get("element_type", "")])
            _edit_bytes(path.with_suffix(".bin"), int(data.get("offset", "0")), dtype, shape, change)
            return 1
    return 0


def _edit_package(package: Path, name: str, change: Change) -> int:
    from sprint_export.runtimes.coreml.mil.program import find_model, read_model, read_program

    program = read_program(package)
    parts = {
        f"{op.outputs[-1].name}.{parameter}": names[0]
        for op in program.compressed.values()
        for parameter, names in op.inputs.items()
    }
    constant = program.constants.get(parts.get(name, name))
    if constant is None:
        return 0
    model = read_model(package)
    function = model.mlProgram.functions[program.function]
    operations = function.block_specializations[function.opset].operations
    literal = _list_literals(operations)[constant.value.name]
    values = constant.load()
    if constant.on_disk:
        blob = find_model(package).parent / "weights" / "weight.bin"
        head = blob.read_bytes()[literal.blobFileValue.offset :][:BLOB_HEAD]
        start = int.from_bytes(head[BLOB_START : BLOB_START + 8], "little")
        _edit_bytes(blob, start, values.dtype, values.shape, change)
        return 1
    changed, tensor = change(values).astype(values.dtype), literal.immediateValue.tensor
    if tensor.WhichOneof("value") == "bytes":
        tensor.bytes.values = changed.tobytes()
    else:
        getattr(tensor, tensor.WhichOneof("value")).values[:] = changed.reshape(-1).tolist()
    find_model(package).write_bytes(model.SerializeToString())
    return 1


def _list_literals(operations: Any) -> dict[str, Any]:
    """A program's literals by the names that runtimes.coreml.mil.program gives them."""
    found: dict[str, Any] = {}
    for each in operations:
        if each.type == "const":
            found[each.outputs[0].name] = each.attributes["val"]
            continue
        named = each.attributes["name"].immediateValue.tensor.strings.values if "name" in each.attributes else ()
        name = named[0] if named else each.outputs[0].name
        found |= {f"{name}.{parameter}": literal for parameter, literal in each.attributes.items()}
        for parameter, argument in each.inputs.items():
            found |= {f"{name}.{parameter}.{i}": one.value for i, one in enumerate(argument.arguments)}
    return found


def _edit_bytes(path: Path, start: int, dtype: Any, shape: tuple[int, ...], change: Change) -> None:
    data = bytearray(path.read_bytes())
    values = np.frombuffer(bytes(data), dtype, math.prod(shape), start).reshape(shape)
    content = np.ascontiguousarray(change(values).astype(dtype)).tobytes()
    data[start : start + len(content)] = content
    path.write_bytes(bytes(data))
