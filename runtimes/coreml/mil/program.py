"""A saved .mlpackage as a list of ops: the Model protobuf, with weights left on the disk until an op asks for them.

Manifest.json names the Model; Model.mlProgram.functions[f].block_specializations[opset] is one block, a list of operations in
the order they run. A value is known by its name; an operand is the name of an input, a constant or an earlier result, or a
literal. A constant is a literal too, or a place in weights/*.bin: 64 bytes of metadata (sentinel, type, bytes, offset), then
the data.

    program = read_program(Path("transformer.mlpackage"))
    [op.type for op in program.ops]
    program.constants["p_proj_out_weight_to_fp16"].load()

coremltools reads the protobuf and unpacks the weights; its own loader is not used, because it infers types and values anew
(what is checked here is what is written) and keeps all weights in memory, and its load_spec rewrites Manifest.json.
Covered: static shapes, one block per function. Not covered: state, control flow, flexible shapes, classifier outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from coremltools import proto
from google.protobuf.message import DecodeError

from sprint_export.errors import BundleError, RefusedError, unknown_choice
from sprint_export.runtimes.coreml.mil.damage import find_inside, told_as_damage
from sprint_export.runtimes.coreml.mil.weights_file import WeightsFile, read_bits
from sprint_export.strict_json import parse_json

Array = npt.NDArray[Any]
MOST_ELEMENTS = 1 << 31  # of one value: 8 GB


@dataclass(frozen=True)
class Value:
    """A name with the type the file declares for it: dtype as torch spells it, or "string", "int4", "uint6", ..."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Constant:
    """A value the file holds; `load` reads it anew each time. `on_disk` says that it is a weight, not a literal."""

    value: Value
    load: Callable[[], Array]
    on_disk: bool


@dataclass(frozen=True)
class Op:
    """One operation: for each parameter the names of its operands (one, or many for a tuple such as concat's values)."""

    type: str
    name: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[Value, ...]

    @property
    def operands(self) -> tuple[str, ...]:
        """All names it reads."""
        return tuple(name for names in self.inputs.values() for name in names)


@dataclass(frozen=True)
class Program:
    """One function of a package. `compressed` holds the constexpr_* ops by the name of each value they give."""

    package: Path
    function: str
    inputs: tuple[Value, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    constants: Mapping[str, Constant]
    compressed: Mapping[str, Op]


def read_program(package: Path, function: str = "main") -> Program:
    """Read one function of a saved package.

    Raises:
        BundleError: the package is damaged: a file is missing, truncated, or is not what it should be.
        InputError: it has no such function.
        RefusedError: it holds something this checker does not cover.
    """
    with told_as_damage(package):
        return _read_function(package, function)


def _read_function(package: Path, function: str) -> Program:
    functions = read_model(package).mlProgram.functions
    if function not in functions:
        raise unknown_choice(f"function of {package}:", function, functions)
    found = functions[function]
    if found.opset not in found.block_specializations:
        raise BundleError(
            f"{package}: function {function!r} has no block for its opset {found.opset!r}; export the student again"
        )
    return _Reader(package).read(function, found.inputs, found.block_specializations[found.opset])


def find_model(package: Path) -> Path:
    """The file in the package that holds its Model; weights lie beside it.

    Raises:
        BundleError: no package there, or a damaged one.
    """
    manifest = package / "Manifest.json"
    if not manifest.exists():
        raise BundleError(f"{package} is no Core ML package: it has no Manifest.json; export the student again")
    try:
        items = parse_json(find_inside(package, manifest).read_bytes())
        path = Path(items["itemInfoEntries"][items["rootModelIdentifier"]]["path"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BundleError(f"{manifest} names no model ({repr(error)[:200]}); export the student again") from error
    if path.is_absolute() or ".." in path.parts:
        raise BundleError(f"{manifest} points outside the package, to {repr(str(path)[:200])[1:-1]}; do not use it")
    return package / "Data" / path


def read_model(package: Path) -> Any:
    """The package's Model protobuf (coremltools' Model_pb2.Model).

    Raises:
        BundleError: no package there, or a damaged one.
    """
    model, file = proto.Model_pb2.Model(), find_model(package)
    try:
        model.ParseFromString(find_inside(package, file).read_bytes())
    except DecodeError as error:
        raise BundleError(f"{file} is damaged ({file.stat().st_size} bytes: {error}); export the student again") from error
    if model.WhichOneof("Type") != "mlProgram":
        kind = model.WhichOneof("Type") or "model of no type"
        raise BundleError(f"{file} holds a {kind}, expected an mlProgram; export the student again")
    return model


class _Reader:
    """Fills one Program; blob files are opened once."""

    def __init__(self, package: Path) -> None:
        self._package = package
        self._files: dict[str, WeightsFile] = {}
        self._constants: dict[str, Constant] = {}
        self._compressed: dict[str, Op] = {}

    def read(self, function: str, inputs: Iterable[Any], block: Any) -> Program:
        given, ops = tuple(self._read_value(value) for value in inputs), []
        for operation in block.operations:
            op = self._read_op(operation)
            if operation.type == "const":
                self._hold(op.outputs[0], operation.attributes["val"])
            elif operation.type.startswith("constexpr_"):
                self._compressed |= {value.name: op for value in op.outputs}
            else:
                ops.append(op)
        program = Program(self._package, function, given, tuple(block.outputs), tuple(ops), self._constants, self._compressed)
        _check_names(program)
        return program

    def _read_op(self, operation: Any) -> Op:
        outputs = tuple(self._read_value(value) for value in operation.outputs)
        name = _literal_text(operation.attributes["name"]) if "name" in operation.attributes else ""
        name = name or (outputs[0].name if outputs else operation.type)
        if operation.blocks:
            raise RefusedError(
                f"{self._package}: op {name!r} ({operation.type}) has inner blocks, which the checker does not cover"
            )
        inputs = {
            parameter: tuple(self._read_operand(f"{name}.{parameter}.{i}", one) for i, one in enumerate(argument.arguments))
            for parameter, argument in operation.inputs.items()
        }
        if operation.type != "const":  # before iOS 18 the parts of a constexpr are attributes
            for parameter, literal in operation.attributes.items():
                if parameter != "name":
                    inputs[parameter] = (self._hold_literal(f"{name}.{parameter}", literal),)
        return Op(operation.type, name, inputs, outputs)

    def _read_operand(self, name: str, binding: Any) -> str:
        return binding.name if binding.WhichOneof("binding") == "name" else self._hold_literal(name, binding.value)

    def _hold_literal(self, name: str, literal: Any) -> str:
        self._hold(self._read_type(name, literal.type), literal)
        return name

    def _hold(self, value: Value, literal: Any) -> None:
        on_disk = literal.WhichOneof("value") == "blobFileValue"
        load = self._find_blob(value, literal.blobFileValue) if on_disk else partial(_read_literal, value, literal)
        self._constants[value.name] = Constant(value, load, on_disk)

    def _find_blob(self, value: Value, blob: Any) -> Callable[[], Array]:
        prefix, _, name = blob.fileName.rpartition("/")
        if prefix != "@model_path/weights" or name in ("", ".", ".."):
            raise BundleError(
                f"{self._package}: the weight {value.name} is in {blob.fileName!r}, outside the package; do not use it"
            )
        if name not in self._files:
            path = find_model(self._package).parent / "weights" / name
            if not path.exists():
                raise BundleError(f"{path} is missing, which holds the weights; export the student again")
            self._files[name] = WeightsFile(find_inside(self._package, path))
        return self._files[name].find(value.name, value.dtype, value.shape, blob.offset)

    def _read_value(self, value: Any) -> Value:
        return self._read_type(value.name, value.type)

    def _read_type(self, name: str, declared: Any) -> Value:
        if declared.WhichOneof("type") != "tensorType":
            kind = declared.WhichOneof("type")
            raise RefusedError(f"{self._package}: the value {name!r} is a {kind}, which the checker does not cover")
        tensor = declared.tensorType
        if any(dimension.WhichOneof("dimension") != "constant" for dimension in tensor.dimensions):
            raise RefusedError(f"{self._package}: the value {name!r} has a flexible shape; the checker covers fixed shapes only")
        dtype = proto.MIL_pb2.DataType.Name(tensor.dataType).lower()
        shape = tuple(dimension.constant.size for dimension in tensor.dimensions)
        if math.prod(shape) > MOST_ELEMENTS:
            raise BundleError(f"{self._package}: the value {name!r} has shape {list(shape)}; export the student again")
        return Value(name, dtype, shape)


def _check_names(program: Program) -> None:
    known = {value.name for value in program.inputs} | set(program.constants) | set(program.compressed)
    for op in program.ops:
        missing = [name for name in op.operands if name not in known]
        if missing:
            raise BundleError(
                f"{program.package}: op {op.name!r} reads {missing[0]!r}, which nothing gives; export the student again"
            )
        known |= {value.name for value in op.outputs}
    missing = [name for name in program.outputs if name not in known]
    if missing:
        raise BundleError(f"{program.package}: nothing gives the output {missing[0]!r}; export the student again")


def _literal_text(literal: Any) -> str:
    values = literal.immediateValue.tensor.strings.values
    return str(values[0]) if values else ""


def _read_literal(value: Value, literal: Any) -> Array:
    tensor = literal.immediateValue.tensor
    kind = tensor.WhichOneof("value")
    if kind is None:
        raise BundleError(f"the constant {value.name!r} has no value the checker knows; export the student again")
    held = getattr(tensor, kind).values
    try:
        if kind == "bytes":
            return read_bits(held, value.dtype, value.shape)
        dtype = np.dtype(object) if value.dtype == "string" else np.dtype(value.dtype)
        return np.array(list(held), dtype).reshape(value.shape)
    except ValueError as error:
        raise BundleError(f"the constant {value.name!r} does not fit its shape {list(value.shape)}: {error}") from error
