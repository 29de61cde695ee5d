"""Layers whose weight is stored in 8 bits, in the form Core AI's converter reads: q, its scales, and the op that multiplies them.

    Linear, Conv2d    w = q scale                     one blockwise_shift_scale in the file, fed by two constants
    Embedding         row = q[id] scale[id]           gathered first: the table is never expanded
    small scales      y = lift ((q scale / lift) x) + b     where a scale is below the normal numbers of the graph's type
    activations       x' = q(x / s) s                 quantize and dequantize, only where the layer has an input range
Scales are the project's own (quantize/scales.py), rounded to the type the graph computes in.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from sprint_export.errors import InputError
from sprint_export.export.narrow import check_fits, narrow
from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import MOST_LIFT, find_lift, input_scale, weight_scale
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.weights import Handle

STORED, SCALE, LIFT, INPUT_SCALE = "stored", "scale", "lift", "input_scale"
EXACT = ("times",)  # sampling times keep float32 in a 16-bit graph


def make_module(component: Component, dtype: str) -> torch.nn.Module:
    """A copy of a component's module that computes in `dtype`, its quantized layers replaced; values are not filled in yet.

    Raises:
        InputError: a layer is quantized in a way Core AI's files cannot hold.
    """
    wanted = getattr(torch, FLOAT_DTYPES[dtype])
    module = copy.deepcopy(component.module)
    for name, layer in component.layers.items():
        is_lifted = bool((_find_lift(component, name, layer) > 1).any())
        module.set_submodule(name, _replace(name, module.get_submodule(name), layer, wanted, is_lifted))
    for owner in module.modules():
        for values in (owner._parameters, owner._buffers):
            for name, value in values.items():
                if value is not None and value.dtype == torch.float32 and name not in EXACT:
                    cast = value.to(wanted)
                    values[name] = torch.nn.Parameter(cast, requires_grad=False) if values is owner._parameters else cast  # type: ignore[assignment]  # one dict holds Parameters, the other Tensors
    # Untouched memory, not `meta`: the shape functions of Core AI's ops answer on the CPU whatever they are given.
    return module.to_empty(device="cpu").eval()


def load_values(component: Component, dtypes: Mapping[str, torch.dtype]) -> Iterator[tuple[str, torch.Tensor]]:
    """The values of parameters and buffers of such a module, by name, one weight in memory at a time.

    Args:
        component: its weights and layers.
        dtypes: what the module wants, by name.
    """
    for name, dtype in dtypes.items():
        owner, _, leaf = name.rpartition(".")
        layer = component.layers.get(owner)
        if layer is None or leaf == "bias":
            yield name, narrow(component.weights[name].load(), dtype, name)
        elif leaf == STORED:
            weight = component.weights[f"{owner}.weight"].load().float()
            check_fits(weight, dtypes[f"{owner}.{SCALE}"], f"{owner}.weight")
            packed = load_scheme(layer.scheme).pack(weight, layer)
            scale = packed["scale"]
            lift = find_lift(scale, layer.scale_dtype)
            yield name, packed["stored"]
            wide = (scale * lift).reshape(_scale_shape(weight, layer))
            yield f"{owner}.{SCALE}", narrow(wide, dtypes[f"{owner}.{SCALE}"], f"{owner}.{SCALE}")
            if f"{owner}.{LIFT}" in dtypes:
                yield f"{owner}.{LIFT}", (1 / lift).to(dtypes[f"{owner}.{LIFT}"])
        elif leaf == INPUT_SCALE:
            yield name, narrow(input_scale(layer), dtype, name)


def _find_lift(component: Component, name: str, layer: QuantizedLayer) -> torch.Tensor:
    """2^e of each scale of a layer, 1 where the type the graph computes in holds it."""
    if layer.scale_dtype not in MOST_LIFT:
        return torch.ones(1)
    scale = weight_scale(component.weights[f"{name}.weight"].load().float(), layer)
    return find_lift(scale, layer.scale_dtype)


def _scale_shape(weight: torch.Tensor | Handle, layer: QuantizedLayer) -> tuple[int, ...]:
    """As many axes as the weight: a length on the axis of the output channels, 1 elsewhere."""
    return tuple(size if axis == layer.weight_axis else 1 for axis, size in enumerate(weight.shape))


def _replace(name: str, module: torch.nn.Module, layer: QuantizedLayer, dtype: torch.dtype, is_lifted: bool) -> StoredLayer:
    scheme = load_scheme(layer.scheme)
    is_measured = scheme.inputs is None or (not scheme.inputs.is_dynamic and scheme.inputs.format == scheme.weights)
    if scheme.weights.bits != 8 or layer.group or scheme.rank or not is_measured:
        raise InputError(
            f"layer {name!r} is quantized to {scheme.name}, expected 8 bits with one scale for each output channel and, where "
            "inputs are rounded, one for those: that is what .aimodel files are written with; use a coreml target, or change the "
            "recipe"
        )
    kinds = {torch.nn.Linear: StoredLinear, torch.nn.Conv2d: StoredConv2d, torch.nn.Embedding: StoredEmbedding}
    if type(module) not in kinds:
        raise InputError(f"layer {name!r} is a {type(module).__name__}, expected {', '.join(k.__name__ for k in kinds)}")
    replaced = kinds[type(module)](module, layer, dtype)
    if is_lifted:
        replaced.register_buffer(LIFT, torch.empty(len(replaced.stored), dtype=dtype, device="meta"))
    return replaced


class StoredLayer(torch.nn.Module):
    """What the three replacements share: q, its scales, and the float weight they stand for."""

    stored: torch.Tensor
    scale: torch.Tensor
    lift: torch.Tensor | None  # [out], what the results are multiplied by

    def __init__(self, module: torch.nn.Module, layer: QuantizedLayer, dtype: torch.dtype) -> None:
        super().__init__()
        weight: torch.Tensor = module.weight  # type: ignore[assignment]  # the three kinds have one
        self.dtype, self.quantizes_input = dtype, layer.input_amax is not None
        self.kind: torch.dtype = getattr(torch, load_scheme(layer.scheme).weights.storage)  # int8 or float8_e4m3fn
        self.register_buffer(STORED, torch.empty(weight.shape, dtype=self.kind, device="meta"))
        self.register_buffer(SCALE, torch.empty(_scale_shape(weight, layer), dtype=dtype, device="meta"))
        self.register_buffer(LIFT, None)
        self.register_buffer(INPUT_SCALE, torch.empty((), dtype=dtype, device="meta") if self.quantizes_input else None)
        self.bias = getattr(module, "bias", None)

    @property
    def weight(self) -> torch.Tensor:
        """q scale, in the graph's type."""
        # Unless told that 8-bit integers are meant, the converter takes small ones for 4 bits.
        named = self.kind if self.kind == torch.int8 else None
        weight: torch.Tensor = torch.ops.coreai.constexpr_blockwise_shift_scale(
            self.stored, self.scale, None, None, named, self.dtype
        )
        return weight

    def round_input(self, x: torch.Tensor) -> torch.Tensor:
        """Quantize and dequantize, where the layer has a range for it; values beyond the range are clipped to it."""
        if not self.quantizes_input:
            return x
        scale = self.get_buffer(INPUT_SCALE)
        stored = torch.ops.coreai.quantize(x, scale, self.kind, None, None, 0)
        rounded: torch.Tensor = torch.ops.coreai.dequantize(stored, scale, None, None, 0, None, self.dtype)
        return rounded


class StoredLinear(StoredLayer):
    """Stands in for a Linear."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        x = self.round_input(x)
        if self.lift is None:
            return F.linear(x, self.weight, self.bias)
        y = F.linear(x, self.weight) * self.lift
        return y if self.bias is None else y + self.bias


class StoredConv2d(StoredLayer):
    """Stands in for a Conv2d with zero padding."""

    def __init__(self, module: torch.nn.Module, layer: QuantizedLayer, dtype: torch.dtype) -> None:
        super().__init__(module, layer, dtype)
        self.settings: dict[str, Any] = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        x = self.round_input(x)
        if self.lift is None:
            return F.conv2d(x, self.weight, self.bias, **self.settings)
        y = F.conv2d(x, self.weight, **self.settings) * self.lift[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]


class StoredEmbedding(StoredLayer):
    """Stands in for an Embedding."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[B, L] -> [B, L, D]."""
        rows = self.stored[ids].to(self.dtype) * self.scale[ids]
        return rows if self.lift is None else rows * self.lift[ids][..., None]
