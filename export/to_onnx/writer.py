"""A component becomes an ONNX graph: captured on `meta`, its initializers bound to lazy weights by name.

    module on meta --torch.export--> program --torch.onnx--> onnx_ir model --bind--> --passes--> --Q/DQ--> --rules--> files
No weight is in memory while the graph is made; the writer pulls them one at a time. Inputs and outputs are float32 and int64
whatever the graph computes in, so that every runtime chains the same arrays.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir import external_data

from sprint_export.errors import InputError, SprintExportError
from sprint_export.export.captures import recall_capture
from sprint_export.export.exporter import Exporter
from sprint_export.export.repeats import IrregularError, shorten
from sprint_export.export.to_onnx.free_axes import make_example, name_axes
from sprint_export.export.to_onnx.passes import run_passes
from sprint_export.export.to_onnx.qdq import insert_qdq
from sprint_export.export.to_onnx.repeated_graph import repeat_graph
from sprint_export.export.to_onnx.rule import apply_rules, rewrite_graph
from sprint_export.export.to_onnx.shadow import write_shadow
from sprint_export.export.to_onnx.tensors import lazy_tensor
from sprint_export.nouns.bundle import ComponentRecord, Part
from sprint_export.nouns.recipe import FLOAT_DTYPES
from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.nouns.target import Options, Target

OPSET = 22  # the first whose Conv takes bfloat16; from 23 on attention is one op, which few runtimes can quantize
FLOAT32_LEAVES = ("times",)  # sampling times keep their precision in a 16-bit graph
INLINE_BYTES = 1024  # smaller tensors stay in the graph file
KINDS = {"model.onnx": "graph", "model.onnx.data": "weights", "model.shadow.onnx": "shadow"}


class OnnxExporter(Exporter):
    """ONNX: `model.onnx` with its data and, for another runtime's graph, its shadow."""

    format: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxscript", "tensorrt-rtx")  # whose versions shape the files

    def write_component(
        self, component: Component, target: Target, precision: str, options: Options, folder: Path
    ) -> ComponentRecord:
        """Write `model.onnx` with its data and, for another runtime's graph, its shadow into an empty folder."""
        model = capture_graph(component, target.graph_dtype[precision])
        rewrites, notes = rewrite_graph(model, component, target)
        parts = (Part("model.onnx", component.inputs, component.outputs),)
        counts = count_precisions(model)
        write_graph(model, folder / "model.onnx")
        if target.needs_build:  # the graph is for another runtime than the one that can check it here
            write_shadow(folder / "model.onnx")
        record = ComponentRecord(component.role, component.inputs, component.outputs, parts, counts, component.layers)
        return replace(record, notes=(*component.notes, *notes), rewrites=rewrites)

    def kind_of(self, path: PurePath) -> str | None:
        """What a file of a component's folder is to the bundle; None for what is not the format's."""
        return KINDS.get(path.as_posix())


EXPORTER = OnnxExporter()


def make_graph(component: Component, dtype: str, rewrites: Sequence[str] = ()) -> ir.Model:
    """`capture_graph`, and the rules of these names in this order."""
    model = capture_graph(component, dtype)
    apply_rules(model, rewrites)
    return model


def capture_graph(component: Component, dtype: str) -> ir.Model:
    """Capture a component as an onnx_ir model with lazy initializers and, where it has quantized layers, Q/DQ.

    Args:
        component: specialized (it has input and output specs).
        dtype: "fp32", "fp16" or "bf16": what the graph computes in.

    Raises:
        InputError: the component is not specialized.
    """
    if not component.inputs:
        raise InputError(f"{component.role} has no input specs; call specialize_student before exporting")
    module = _cast(component.module, getattr(torch, FLOAT_DTYPES[dtype]))
    model = translate_module(module, component.inputs, component.outputs)
    name_axes(model, component)
    _bind(model, component)
    run_passes(model)
    insert_qdq(model, component)
    model.graph.name = component.role
    model.producer_name, model.producer_version = "sprint-export", None
    return model


def translate_module(module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> ir.Model:
    """A module on `meta` as a graph whose initializers have no values, as torch writes it; the caller's own."""
    return recall_capture(_translate, _copy_model, module, inputs, outputs)


def _copy_model(model: ir.Model) -> ir.Model:
    """A copy in which nodes to come get the same numbers."""
    copied = model.clone()
    copied.graph._name_authority = copy.deepcopy(model.graph._name_authority)
    return copied


def _translate(module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> ir.Model:
    """With equal blocks translated once, where the graph repeats them as the module does."""
    short, repeats = shorten(module, make_example(inputs)[0])
    try:
        return repeat_graph(_translate_whole(short, inputs, outputs), module, repeats)
    except IrregularError:
        return _translate_whole(module, inputs, outputs)


def _translate_whole(module: torch.nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> ir.Model:
    example, free = make_example(inputs)
    with _quiet(), torch.no_grad():
        program = torch.export.export(module, example, dynamic_shapes=free, strict=False)
        exported = torch.onnx.export(
            program,
            (),
            kwargs={},
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verify=False,
            verbose=False,
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
        )
    assert exported is not None
    model: ir.Model = exported.model
    return model


def write_graph(model: ir.Model, path: Path) -> None:
    """Write `model.onnx` and `model.onnx.data`, one tensor in memory at a time; the model is checked in full.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.name + ".data"
    (path.parent / data).unlink(missing_ok=True)
    model = external_data.unload_from_model(model, path.parent, data, size_threshold_bytes=INLINE_BYTES)
    with _own_errors_first():
        ir.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    for file in (path, path.parent / data):
        if file.exists():
            with file.open("r+b") as handle:
                os.fsync(handle.fileno())


def _cast(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    module = copy.deepcopy(module)
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is not None:
                owner._parameters[name] = torch.nn.Parameter(parameter.to(dtype), requires_grad=False)
        for name, buffer in owner._buffers.items():
            if buffer is not None and buffer.is_floating_point() and name not in FLOAT32_LEAVES:
                owner._buffers[name] = buffer.to(dtype)
    return module


def _bind(model: ir.Model, component: Component) -> None:
    """Give every initializer that came from a parameter or buffer its lazy tensor.

    Weights that Q/DQ will replace stay float32: rounding them to 16 bits before 8 would round twice.
    """
    quantized = {f"{layer}.weight" for layer in component.layers}
    for name, value in model.graph.initializers.items():
        raw = getattr(value.const_value, "raw", None)
        if isinstance(raw, torch.Tensor) and raw.device.type != "meta":
            continue  # a constant that tracing computed
        if name not in component.weights:
            raise KeyError(f"graph initializer {name!r} has no weight; have e.g. {sorted(component.weights)[:3]}")
        assert value.dtype is not None
        dtype = ir.DataType.FLOAT if name in quantized else value.dtype
        value.const_value = lazy_tensor(name, component.weights[name], dtype)


def count_precisions(model: ir.Model) -> dict[str, int]:
    """How many weight values the graph stores in each type: {"FLOAT8E4M3FN": 2300000, ...}."""
    counts: dict[str, int] = {}
    for value in model.graph.initializers.values():
        if value.const_value is not None and value.dtype is not None:
            size = int(np.prod(value.const_value.shape.numpy())) if len(value.const_value.shape) else 1
            counts[value.dtype.name] = counts.get(value.dtype.name, 0) + size
    return dict(sorted(counts.items()))


@contextlib.contextmanager
def _own_errors_first() -> Iterator[None]:
    """onnx_ir wraps what a lazy tensor raises; a weight that does not fit is told in our own words."""
    try:
        yield
    except ir.serde.SerdeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, SprintExportError):
            cause = cause.__cause__ or cause.__context__
        raise (cause or error) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx warns about torchvision and pytree internals; none of it is the user's business."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
