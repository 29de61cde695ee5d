"""Small Core ML packages: written by coremltools' builder or converted from torch, and edited afterwards, byte by byte."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import torch
from coremltools.converters.mil import Builder as mb  # noqa: N813  # as Apple's documentation writes it
from coremltools.converters.mil.mil import types

from sprint_export.runtimes.coreml.mil.program import find_model, read_model

Spec = tuple[tuple[int, ...], str]  # shape and MIL type
TYPES = {"fp32": types.fp32, "fp16": types.fp16, "int32": types.int32, "bool": types.bool}


def save_program(path: Path, specs: Sequence[Spec], build: Callable[..., Any], target: Any = ct.target.iOS18) -> Path:
    """The package of `build(*inputs)`, whose parameters name the inputs; no pass changes it."""
    inputs = [mb.TensorSpec(shape=shape, dtype=TYPES[dtype]) for shape, dtype in specs]
    program = mb.program(input_specs=inputs, opset_version=target)(build)
    return save_model(path, program, target, pass_pipeline=ct.PassPipeline.EMPTY)


def save_module(
    path: Path, module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], precision: str
) -> torch.export.ExportedProgram:
    """Convert a module as the exporter does; what was converted is given back."""
    exported: torch.export.ExportedProgram = torch.export.export(module.eval(), arguments, strict=False).run_decompositions({})
    save_model(path, exported, ct.target.iOS18, compute_precision=getattr(ct.precision, precision))
    return exported


def save_model(path: Path, program: Any, target: Any, **options: Any) -> Path:
    logging.disable(logging.WARNING)  # coremltools reports each missing macOS library
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {"compute_precision": ct.precision.FLOAT32} | options
            model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True, **options)
            model.save(str(path))
    finally:
        logging.disable(logging.NOTSET)
    return path


def load_model(package: Path) -> Any:
    """The package as coremltools' optimizers take it."""
    return ct.models.MLModel(str(package), skip_model_load=True)


def find_literal(model: Any, name: str) -> Any:
    """The literal of the constant that gives a value, or the one that stands at an op's parameter: "op.parameter.0"."""
    for op in list_operations(model):
        if op.type == "const" and op.outputs[0].name == name:
            return op.attributes["val"]
        for parameter, argument in op.inputs.items():
            if f"{op.outputs[0].name}.{parameter}.0" == name:
                return argument.arguments[0].value
    raise AssertionError(f"no constant {name}")


def list_operations(model: Any) -> Any:
    """The operations of a Model protobuf's main function."""
    function = model.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations


def find_operand(package: Path, value: str, parameter: str) -> str:
    """What a parameter of the op that gives a value (or its 16-bit copy) is bound to."""
    operations = list_operations(read_model(package))
    (op,) = [op for op in operations if op.outputs and op.outputs[0].name in (value, f"{value}_cast_fp16")]
    return str(op.inputs[parameter].arguments[0].name)


def change_literal(package: Path, name: str, value: Any) -> None:
    """Write another value into a constant that stands in the program itself."""
    model = read_model(package)
    tensor = find_literal(model, name).immediateValue.tensor
    kind = tensor.WhichOneof("value")
    if kind == "bytes":
        tensor.bytes.values = np.float16(value).tobytes()
    else:
        held = getattr(tensor, kind).values
        del held[:]
        held.extend(value if isinstance(value, list) else [value])
    find_model(package).write_bytes(model.SerializeToString())


def change_weight(package: Path, name: str, dtype: str, change: Callable[[Any], None]) -> None:
    """Let `change` edit the flat array of a constant in the weights file, in place."""
    blob = find_literal(read_model(package), name).blobFileValue
    file = find_model(package).parent / "weights" / Path(blob.fileName).name
    data = bytearray(file.read_bytes())
    _, _, size, start = struct.unpack_from("<IIQQ", data, blob.offset)
    change(np.frombuffer(data, dtype, size // np.dtype(dtype).itemsize, start))
    file.write_bytes(data)
