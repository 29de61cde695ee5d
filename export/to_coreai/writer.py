"""A component becomes a Core AI asset (`model.aimodel`, iOS 27 and macOS 27), on any system the converter is published for.

    module --replace quantized layers--> --torch.export--> program --fill in weights--> --coreai-torch--> main.mlirb
The graph is captured without weights; they are pulled one at a time when it is whole. Inputs and outputs are float32 and int32
whatever the graph computes in.

Not covered: several files for one component; free axes; Apple's composite ops for norms.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, ClassVar

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from sprint_export.disk_errors import check_disk_space
from sprint_export.errors import InputError
from sprint_export.export.exporter import Exporter
from sprint_export.export.repeated_program import export_program
from sprint_export.export.to_coreai.layers import load_values, make_module
from sprint_export.export.to_coreai.names import fix_date, names_from_content
from sprint_export.libraries import hush, require
from sprint_export.nouns.bundle import ComponentRecord, Part
from sprint_export.nouns.student import Component
from sprint_export.nouns.target import UNIT_KEY, Options, Target

ASSET, GRAPH = "model.aimodel", "main.mlirb"
BYTES = {"FLOAT16": 2, "BFLOAT16": 2, "INT8": 1, "FLOAT8E4M3FN": 1}  # of a value; 4 of any other
GRAPH_BYTES = 4_000_000  # that a network takes beside its weights, at most
KINDS = {f"{ASSET}/{GRAPH}": "graph", f"{ASSET}/main.hash": "package", f"{ASSET}/metadata.json": "package"}
FUNCTION = "main"
TYPES = {"f32": "FLOAT", "f16": "FLOAT16", "bf16": "BFLOAT16", "si8": "INT8", "f8E4M3FN": "FLOAT8E4M3FN"}  # of weights


class CoreAIExporter(Exporter):
    """Core AI assets: `model.aimodel`."""

    format: ClassVar[str] = "aimodel"
    tools: ClassVar[tuple[str, ...]] = ("coreai-core", "coreai-torch")

    def write_component(
        self, component: Component, target: Target, precision: str, options: Options, folder: Path
    ) -> ComponentRecord:
        """Write `model.aimodel` into an empty folder.

        Raises:
            InputError: the component is not specialized, or a layer's quantization is not one the format holds.
            MachineError: coreai-torch is missing.
            OSError: the disk is full or the folder is not writable.
        """
        if not component.inputs:
            raise InputError(f"{component.role} has no input specs; call specialize_student before exporting")
        program = make_program(component, target.graph_dtype[precision])
        counts = count_precisions(program)
        check_disk_space(folder, _estimate_bytes(counts))  # the library ends the process where a disk is full
        _write_asset(program, component, options, folder / ASSET)
        inputs = tuple(replace(spec, dtype="int32") if spec.dtype == "int64" else spec for spec in component.inputs)
        parts = (Part(f"{ASSET}/{GRAPH}", inputs, component.outputs),)
        return ComponentRecord(component.role, inputs, component.outputs, parts, counts, component.layers, component.notes)

    def kind_of(self, path: PurePath) -> str | None:
        """What a file of a component's folder is to the bundle; None for what is not the format's."""
        return KINDS.get(path.as_posix())


EXPORTER = CoreAIExporter()


def make_program(component: Component, dtype: str) -> Any:
    """A component as a coreai.authoring.AIProgram with its weights.

    Args:
        component: specialized.
        dtype: "fp32", "fp16" or "bf16": what the graph computes in.
    """
    with hush():  # coreai-torch draws progress bars on stdout, and doubts the torch it was tested with
        coreai_torch: Any = require("coreai_torch", "coreai")
        require("coreai_torch._compression.custom_layers", "coreai")  # registers torch.ops.coreai
        program = _fill(_capture(component, dtype, coreai_torch.get_decomp_table()), component)
        converter = coreai_torch.TorchConverter(mode=coreai_torch.TorchConverter.Mode.RELEASE)  # no paths of this machine
        names = {"input_names": [s.name for s in component.inputs], "output_names": [s.name for s in component.outputs]}
        with names_from_content():
            return converter.add_exported_program(program, entrypoint_name=FUNCTION, **names).to_coreai()


def count_precisions(program: Any) -> dict[str, int]:
    """How many weight values an AIProgram stores in each type: {"FLOAT16": 120, "INT8": 2300000, ...}.

    Axes, shapes and indices are no weights; neither are constants of one repeated value, which is stored once.
    """
    counts: Counter[str] = Counter()
    for operation in _walk(program._module._mlir_module.operation):
        if operation.name == "coreai.constant" and not getattr(operation.attributes["value"], "is_splat", False):
            kind = operation.results[0].type
            name = TYPES.get(str(kind.element_type))
            if name is not None:
                counts[name] += math.prod(kind.shape)
    return dict(sorted(counts.items()))


def _estimate_bytes(counts: Mapping[str, int]) -> int:
    """Of an asset with so many values of each type, FLOAT16, INT8 and the like: somewhat more than it will have."""
    return GRAPH_BYTES + sum(count * BYTES.get(name, 4) for name, count in counts.items())


def _walk(operation: Any) -> Iterator[Any]:
    """An MLIR operation and all within it."""
    yield operation
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _walk(inner.operation)


def _capture(component: Component, dtype: str, decompositions: dict[Any, Any]) -> ExportedProgram:
    """The graph in the ops Core AI knows; its values are untouched memory."""
    module = make_module(component, dtype)
    example = tuple(
        torch.zeros([int(size) for size in spec.shape], dtype=getattr(torch, spec.dtype)) for spec in component.inputs
    )
    with torch.no_grad():
        return export_program(module, example, {**decompositions, torch.ops.aten.linear.default: _flat_linear})


def _flat_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """A Linear as one matrix product, whatever axes come before: [..., in] -> [..., out].

    torch's own decomposition of a Linear over four axes (DC-AE's attention) repeats the weight for each row of the picture, and
    the converter then stores every copy: 16 in the tiny decoder, up to 128 at 1024 px.
    """
    rows = x.reshape(-1, x.shape[-1])
    product = rows @ weight.T if bias is None else torch.addmm(bias, rows, weight.T)
    return product.reshape(*x.shape[:-1], weight.shape[0])


def _fill(program: ExportedProgram, component: Component) -> ExportedProgram:
    """Put the component's weights in the place of untouched memory, in place."""
    values: dict[str, Any] = {**program.state_dict, **program.constants}
    kinds = (InputKind.PARAMETER, InputKind.BUFFER)
    names = [str(spec.target) for spec in program.graph_signature.input_specs if spec.kind in kinds]
    for name, value in load_values(component, {name: values[name].dtype for name in names}):
        assert value.shape == values[name].shape, f"{name}: {tuple(value.shape)}, expected {tuple(values[name].shape)}"
        holder: Any = program.state_dict if name in program.state_dict else program.constants
        holder[name] = torch.nn.Parameter(value, False) if isinstance(values[name], torch.nn.Parameter) else value
    return program


def _write_asset(program: Any, component: Component, options: Options, path: Path) -> None:
    """Save a program with what an app wants to know about it, and flush it to the disk."""
    runtime: Any = require("coreai.runtime", "coreai")
    metadata = runtime.AIModelAssetMetadata()
    metadata.author = "sprint-export"
    metadata.model_description = f"{component.role}: {', '.join(spec.meaning for spec in component.outputs)}"
    metadata.set_custom(UNIT_KEY, str(options.get("compute_unit", "all")))
    program.save_asset(path, metadata)
    fix_date(path)
    for file in path.iterdir():
        with file.open("r+b") as handle:
            os.fsync(handle.fileno())
