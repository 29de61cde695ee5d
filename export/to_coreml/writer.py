"""A component becomes one or more Core ML packages (`.mlpackage`), on any system: nothing here needs a Mac.

    module on meta --torch.export--> program --cut--> parts --fill in weights--> --coremltools--> ML program --> package
Weights are pulled when their part is converted, so memory is that of one part. Inputs and outputs are float32 and int32 whatever
the graph computes in, except what one part hands to the next.
"""

from __future__ import annotations

import copy
import gc
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, ClassVar

import numpy as np
import torch

from sprint_export.errors import InputError
from sprint_export.export.captures import recall_capture
from sprint_export.export.exporter import Exporter
from sprint_export.export.narrow import check_fits
from sprint_export.export.to_coreml.files import save_package
from sprint_export.export.to_coreml.fixes import (
    TANH_FORM,
    drop_aliases,
    frugal_half_precision,
    frugal_passes,
    gelu_keeps_its_form,
    rsqrt_adds_nothing,
)
from sprint_export.export.to_coreml.graph_parts import INNER, GraphPart, capture_program, cut_program
from sprint_export.export.to_coreml.weights import make_pipeline
from sprint_export.files import temporary_files_in
from sprint_export.libraries import hush, require
from sprint_export.nouns.bundle import ComponentRecord, Part
from sprint_export.nouns.recipe import FLOAT_DTYPES
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.nouns.target import UNIT_KEY, Options, Target
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.weights import Handle

KINDS = {".mlmodel": "graph", ".bin": "weights", ".json": "package"}
MODEL = "Data/com.apple.CoreML/model.mlmodel"  # where a package keeps its program
UNLIMITED = float("inf")
TEMPORARY = ".coremltools"
STRUCTURE = ("int32", "bool", "string")  # axes, shapes and names, not weights


class CoreMLExporter(Exporter):
    """Core ML packages: `model.mlpackage`, or `model_1.mlpackage` and so on."""

    format: ClassVar[str] = "coreml"
    tools: ClassVar[tuple[str, ...]] = ("coremltools",)

    def write_component(
        self, component: Component, target: Target, precision: str, options: Options, folder: Path
    ) -> ComponentRecord:
        """Write `model.mlpackage`, or `model_1.mlpackage` and so on, into an empty folder.

        Raises:
            InputError: the component is not specialized, a layer cannot be compressed, or a weight is beyond the graph's type.
            MachineError: coremltools is missing.
        """
        if not component.inputs:
            raise InputError(f"{component.role} has no input specs; call specialize_student before exporting")
        dtype = target.graph_dtype[precision]
        # coremltools draws progress bars, warns of this torch (our tests do the checking) and writes all weights twice more
        with hush(), temporary_files_in(folder / TEMPORARY):
            graphs = make_parts(component, dtype, options)
            parts, counts = [], Counter[str]()
            for i, graph in enumerate(graphs):
                package = folder / ("model.mlpackage" if len(graphs) == 1 else f"model_{i + 1}.mlpackage")
                inputs, outputs = (tuple(_as_stored(spec, dtype) for spec in side) for side in (graph.inputs, graph.outputs))
                model = _convert(graph, inputs, outputs, component, dtype, options)
                counts += count_precisions(model._mil_program)
                save_package(model, package)
                parts.append(Part(f"{package.name}/{MODEL}", inputs, outputs))
                del model
                gc.collect()  # a MIL program is full of cycles, and each holds its part's weights
        return ComponentRecord(
            component.role,
            tuple(_as_stored(spec, dtype) for spec in component.inputs),
            component.outputs,
            tuple(parts),
            dict(sorted(counts.items())),
            component.layers,
            component.notes,
        )

    def kind_of(self, path: PurePath) -> str | None:
        """What a file of a component's folder is to the bundle; None for what is not the format's."""
        return KINDS.get(path.suffix) if any(parent.suffix == ".mlpackage" for parent in path.parents) else None


EXPORTER = CoreMLExporter()


def make_parts(component: Component, dtype: str, options: Options) -> list[GraphPart]:
    """The component's graph on `meta`, cut where the options ask for it; the same every time, to the names of its nodes."""
    limit = float(options.get("part_megabytes", UNLIMITED)) * 1e6
    program = recall_capture(capture_program, copy.deepcopy, component.module, component.inputs)
    drop_aliases(program)
    return cut_program(program, component.inputs, component.outputs, partial(stored_bytes, component, dtype), limit)


def stored_bytes(component: Component, dtype: str, name: str) -> float:
    """Size of a weight in the file: what its layer's precision says, else the graph's type."""
    layer = component.layers.get(name.removesuffix(".weight"))
    bits = (
        load_scheme(layer.scheme).weights.bits
        if layer is not None and name.endswith(".weight")
        else (32 if dtype == "fp32" else 16)
    )
    return bits / 8 * float(torch.Size(component.weights[name].shape).numel())


def _as_stored(spec: TensorSpec, dtype: str) -> TensorSpec:
    """Core ML takes 32-bit integers, and what parts hand on stays in the graph's type."""
    if spec.dtype == "int64":
        return replace(spec, dtype="int32")
    is_inner = spec.meaning == INNER and dtype == "fp16" and spec.dtype == "float32"
    return replace(spec, dtype="float16") if is_inner else spec


def _convert(
    graph: GraphPart,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    component: Component,
    dtype: str,
    options: Options,
) -> Any:
    """One part as a coremltools model, with inputs and outputs of these types."""
    ct = require("coremltools", "coreml")
    program = fill_weights(graph.program, component.weights)
    for name, value in program.state_dict.items():
        check_fits(value, getattr(torch, FLOAT_DTYPES[dtype]), name)
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    types = ct.converters.mil.mil.types
    mil_types = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}
    given, wanted = ([ct.TensorType(name=spec.name, dtype=mil_types[spec.dtype]) for spec in side] for side in (inputs, outputs))
    with gelu_keeps_its_form(), rsqrt_adds_nothing(), frugal_half_precision(), frugal_passes(), torch.no_grad():
        model = ct.convert(
            program,
            inputs=given,
            outputs=wanted,
            minimum_deployment_target=getattr(ct.target, str(options["deployment_target"])),
            compute_precision=ct.precision.FLOAT16 if dtype == "fp16" else ct.precision.FLOAT32,
            pass_pipeline=make_pipeline(names, component.layers, component.weights),
            skip_model_load=True,
        )
    model._mil_program.validate(check_essential_scope=True)
    _check_gelu(graph.program, model._mil_program)
    _check_folds(model._mil_program)
    model.user_defined_metadata[UNIT_KEY] = str(options["compute_unit"])
    model.author, model.short_description = "sprint-export", f"{component.role}: {', '.join(spec.meaning for spec in outputs)}"
    return model


def fill_weights(program: torch.export.ExportedProgram, weights: Mapping[str, Handle]) -> torch.export.ExportedProgram:
    """The program with weights in the place of meta tensors."""

    def fill(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in weights:
            value = weights[name].load().float()
        assert not value.is_meta, f"{name} has no weight"  # what tracing computed is real already
        return torch.nn.Parameter(value, requires_grad=False) if value.is_floating_point() else value

    filled = copy.copy(program)
    filled._state_dict = {name: fill(name, value) for name, value in program.state_dict.items()}
    return filled


def _check_gelu(program: torch.export.ExportedProgram, converted: Any) -> None:
    """The converter is known to lose a gelu's form; this says so if it happens again."""
    nodes = [node for node in program.graph.nodes if node.target is torch.ops.aten.gelu.default]
    wanted = sum(node.kwargs.get("approximate") == "tanh" for node in nodes)
    found = [op.mode.val for op in converted.functions["main"].operations if op.op_type == "gelu"].count(TANH_FORM)
    assert found == wanted, f"{wanted} gelus have the tanh form, {found} after conversion; coremltools changed, see coreml_fixes"


def _check_folds(converted: Any) -> None:
    """Weights fit half precision one by one; what the converter multiplied together has to as well.

    Raises:
        InputError: a constant of the converted program is infinite.
    """
    for op in converted.functions["main"].operations:
        value = op.outputs[0].val if op.op_type == "const" else None
        if isinstance(value, np.ndarray) and value.dtype == np.float16 and not np.isfinite(value).all():
            raise InputError(
                f"weight {op.name} is beyond what half precision holds (65504) once it is folded; choose coreml-fp32, or scale "
                "the student's weights"
            )


def count_precisions(program: Any) -> dict[str, int]:
    """How many weight values a MIL program stores in each type: {"FP16": 120, "INT8": 2300000, ...}."""
    from coremltools.converters.mil.mil import types

    counts: Counter[str] = Counter()
    for operation in program.functions["main"].operations:
        value = operation.outputs[0]
        if operation.op_type == "const" and value.rank > 0 and (name := types.builtin_to_string(value.dtype)) not in STRUCTURE:
            counts[name.upper()] += int(math.prod(value.shape))
    return dict(sorted(counts.items()))
