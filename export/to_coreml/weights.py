"""Compressed weights and quantized inputs in an ML program, from the student's own ranges.

    linear, conv:   w -> constexpr_blockwise_shift_scale (iOS 18) or constexpr_affine_dequantize (before): q scale
    palette:        w -> constexpr_lut_to_dense: table[index]
    input:          x -> dequantize(quantize(x)), one pair for all layers that read x at one scale
A coremltools graph pass that runs last, when every weight is a const in the graph's type. What is written is computed from the
weight as the student holds it (float32), so nothing is rounded twice, and only layers the recipe names are touched:
coremltools' own compression goes by size, and would quantize folded tables too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from sprint_export.errors import InputError
from sprint_export.export.narrow import narrow
from sprint_export.export.to_coreml.fixes import LEFT_OUT
from sprint_export.export.to_coreml.lift import lower_result
from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.quantize.scales import find_lift, input_scale
from sprint_export.quantize.schemes.formats import INT8
from sprint_export.quantize.schemes.scheme import Palette, load_scheme
from sprint_export.weights import Handle

PASS, KEEP = "sprint_export::compress_layers", "sprint_export::keep_weights"
MERGE = "common::const_deduplication"
WEIGHT_INPUTS = {"linear": "weight", "conv": "weight", "gather": "x"}
BATCH = 1 << 26  # weight values quantized at a time: an embedding of 590 million would take 12 GB
NUMPY_TYPES = {"fp32": np.float32, "fp16": np.float16}


def make_pipeline(names: Mapping[str, str], layers: Mapping[str, QuantizedLayer], weights: Mapping[str, Handle]) -> Any:
    """coremltools' default passes, followed by the compression of these layers.

    Args:
        names: of weight constants in the graph -> of the component's weights.
        layers: by module name; those whose weight is not in `names` are another part's.
        weights: the component's.
    """
    import coremltools as ct
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    class CompressLayers(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
        """Runs once, on the main function."""

        def apply(self, program: Any) -> None:
            compress_layers(program.functions["main"], names, layers, weights)

    class KeepWeights(AbstractGraphPass):  # type: ignore[misc]
        """Before constants are merged: equal weights of two layers stay two."""

        def apply(self, program: Any) -> None:
            keep_weights(program.functions["main"], names)

    PASS_REGISTRY.passes |= {PASS: CompressLayers(), KEEP: KeepWeights()}
    pipeline = ct.PassPipeline()
    kept = [name for name in pipeline.passes if name not in LEFT_OUT]
    pipeline.passes = [*(one for name in kept for one in ((KEEP, name) if name == MERGE else (name,))), PASS]
    return pipeline


def keep_weights(function: Any, names: Mapping[str, str]) -> None:
    """Let coremltools merge no layer's weight with another's, in place.

    It merges what differs by no more than 6e-8, and of one constant with two names a layer could not be told from the other.
    Buffers, such as a table that every block reads, are merged as ever.
    """
    for operation in function.operations:
        if operation.op_type == "const":
            name = _find_name(operation.outputs[0].name, names)
            if name is not None and name.endswith(".weight"):
                operation.weight_key = name


def _find_name(const: str, names: Mapping[str, str]) -> str | None:
    return names.get(const) or names.get(const.removesuffix("_to_fp16"))


def compress_layers(
    function: Any, names: Mapping[str, str], layers: Mapping[str, QuantizedLayer], weights: Mapping[str, Handle]
) -> None:
    """Replace the weights, and quantize the inputs, of these layers in a MIL function, in place.

    Raises:
        InputError: a layer's weight is in the part but no linear, conv or gather of its graph reads it; its scheme has what
            an ML program has not.
    """
    for name in layers:
        _check_scheme(name, layers[name])
    here = set(names.values())
    todo = {f"{name}.weight": layer for name, layer in layers.items() if f"{name}.weight" in here}
    written: dict[str, tuple[Any, torch.Tensor]] = {}
    shared: dict[tuple[str, float], Any] = {}
    with function:
        for operation, weight in list(_find_weights(function, names)):
            layer = todo.get(weight)
            if layer is None:
                continue
            replaced = operation.inputs[WEIGHT_INPUTS[operation.op_type]]
            if weight not in written:  # a module may be called more than once
                written[weight] = _write_weight(weights[weight], layer, replaced, operation)
            stored, lift = written[weight]
            _replace(operation, replaced, stored)
            if layer.input_amax is not None:
                source = operation.inputs["x"]
                _replace(operation, source, _round_input(source, layer, operation, shared))
            if (lift > 1).any():
                lower_result(operation, lift, NUMPY_TYPES[layer.scale_dtype])
    missing = [weight for weight in todo if weight not in written]
    if missing:
        raise InputError(
            f"layer {missing[0].removesuffix('.weight')!r}: expected its weight to be read by a linear, conv or gather "
            "of the graph; leave the layer 'float' in the recipe"
        )


def _check_scheme(name: str, layer: QuantizedLayer) -> None:
    scheme = load_scheme(layer.scheme)
    is_plain = scheme.inputs is None or (scheme.inputs.format == INT8 and not scheme.inputs.is_dynamic)
    if not is_plain or scheme.rank or scheme.weights.is_float or layer.weight_axis is None:
        raise InputError(
            f"layer {name!r}: expected integers or palettes by output channel and inputs in float or INT8 at one scale, found "
            f"{scheme.name}; ML programs have no more than that, give the layer another precision in the recipe"
        )


def _find_weights(function: Any, names: Mapping[str, str]) -> Iterator[tuple[Any, str]]:
    """Operations that read a named weight, with the weight's name in the component."""
    for operation in function.operations:
        if operation.op_type in WEIGHT_INPUTS:
            name = _find_name(operation.inputs[WEIGHT_INPUTS[operation.op_type]].name, names)
            if name is not None:
                yield operation, name


def _write_weight(handle: Handle, layer: QuantizedLayer, replaced: Any, before: Any) -> tuple[Any, torch.Tensor]:
    """The compressed weight, and what its rows are multiplied by so that their scales are normal numbers, [out] or [1]."""
    from coremltools.converters.mil.frontend import _utils as lowering

    value, dtype = handle.load().float(), NUMPY_TYPES[layer.scale_dtype]
    scheme = load_scheme(layer.scheme)
    if isinstance(scheme, Palette):
        packed = scheme.pack(value, layer)
        indices, tables = packed["stored"], packed["table"]
        table = tables.numpy().astype(dtype).reshape(tables.shape[0], *(1,) * (value.ndim - 1), -1, 1)
        palette = lowering._construct_constexpr_lut_op(indices.numpy(), table, name=replaced.name, before_op=before)
        return palette, torch.ones(1)
    assert layer.weight_axis == 0, "a scale per output channel, so that channels can be quantized apart"
    # each output channel has scales of its own, so they need not all be in memory
    rows = [scheme.pack(part, layer) for part in value.split(max(1, BATCH // value[0].numel()))]
    stored, scale = np.concatenate([part["stored"].numpy() for part in rows]), torch.cat([part["scale"] for part in rows])
    if scheme.weights.bits == 4:
        from coremltools.converters.mil.mil import types

        stored = stored.astype(types.nptype_from_builtin(types.int4))
    lift = find_lift(scale, layer.scale_dtype)
    wide = (scale * lift).numpy().astype(dtype).reshape(*scale.shape, *(1,) * (value.ndim - scale.ndim))
    return lowering._construct_constexpr_dequant_op(stored, None, wide, axis=0, name=replaced.name, before_op=before), lift


def _round_input(source: Any, layer: QuantizedLayer, before: Any, shared: dict[tuple[str, float], Any]) -> Any:
    from coremltools.converters.mil import Builder

    scale = narrow(input_scale(layer), getattr(torch, FLOAT_DTYPES[layer.scale_dtype]), f"scale of {source.name}").numpy()
    key = (source.name, float(scale))
    if key not in shared:
        name = f"{source.name}_q{len(shared)}"
        stored = Builder.quantize(input=source, scale=scale, output_dtype="int8", name=name, before_op=before)
        shared[key] = Builder.dequantize(input=stored, scale=scale, name=f"{name}_dq", before_op=before)
    return shared[key]


def _replace(operation: Any, old: Any, new: Any) -> None:
    """Let this operation, and no other, read another value."""
    block = operation.enclosing_block
    every = list(block.operations)
    before = every[every.index(operation) - 1]  # not new.op: what lies between may read the old value too
    block.replace_uses_of_var_after_op(anchor_op=before, old_var=old, new_var=new, end_op=operation, force_replace=True)
