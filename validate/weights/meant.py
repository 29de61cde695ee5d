"""What a file should hold of each weight, computed from the student as quantization does, some rows at a time.

    quantized   codes and scale [, table], as the layer's scheme packs them; A and B of a branch beside the layer
    other       value, in the graph's type
A table of words is 590 million values, so nothing is packed whole: `Meant.chunks` gives a few rows of each piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from sprint_export.nouns.recipe import FLOAT_DTYPES, QuantizedLayer
from sprint_export.nouns.student import Component
from sprint_export.quantize.scales import find_lift, split_weight
from sprint_export.quantize.schemes.scheme import Palette, load_scheme
from sprint_export.weights import Handle

Array = npt.NDArray[Any]
CODES, SCALE, TABLE, VALUE, BRANCH = "codes", "scales", "table", "values", "branch"
LIFTED, LIFT = "lifted scales", "lift"  # scales times 2^e, and 2^-e, where the graph's type holds them so (quantize/scales.py)
ROWS_VALUES = 1 << 24  # of a weight that are packed together
EXACT = ("times",)  # weights that keep float32 in a graph of 16 bits


@dataclass(frozen=True)
class Meant:
    """One weight of a network as files should hold it.

    Args:
        name: of the weight.
        handle: what the student has, edits included.
        layer: how it is quantized; None: it is not.
        dtype: "fp32", "fp16" or "bf16": what the graph computes in.
    """

    name: str
    handle: Handle
    layer: QuantizedLayer | None
    dtype: str

    @property
    def module(self) -> str:
        """The path of the module that it belongs to; a weight of the network itself stands for itself."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def has_signs(self) -> bool:
        """Whether codes and scales have the signs that are computed here; another library that packs them has other digits."""
        return self.layer is None or not load_scheme(self.layer.scheme).packed_by

    def read_pieces(self) -> Iterator[dict[str, Array]]:
        """Some rows of each piece, in order, in torch's arrangement; a piece without rows comes with the first."""
        whole = self.handle.load()
        if self.layer is None and not (whole.is_floating_point() and whole.ndim):
            yield {VALUE: whole.float().numpy()} if whole.is_floating_point() else {}
            return
        has_own_rows = self.layer is None or _has_own_rows(self.layer)
        rows = max(1, ROWS_VALUES * len(whole) // max(whole.numel(), 1)) if has_own_rows else len(whole)
        for part in whole.split(rows):
            yield {VALUE: self._store(part)} if self.layer is None else _pack(part.float(), self.layer)

    def _store(self, rows: torch.Tensor) -> Array:
        stored = rows if self._is_exact(rows) else rows.to(getattr(torch, FLOAT_DTYPES[self.dtype]))
        found: Array = stored.float().numpy()
        return found

    def _is_exact(self, value: torch.Tensor) -> bool:
        return self.name in EXACT or not value.is_floating_point()


def _has_own_rows(layer: QuantizedLayer) -> bool:
    """Whether each row of a weight can be packed without the others."""
    scheme = load_scheme(layer.scheme)
    return layer.weight_axis is not None and not scheme.rank and not isinstance(scheme, Palette)


def _pack(rows: torch.Tensor, layer: QuantizedLayer) -> dict[str, Array]:
    stored, branch = split_weight(rows, layer)
    packed = load_scheme(layer.scheme).pack(stored, layer)
    pieces = {CODES: _to_numpy(packed["stored"])}
    if "scale" in packed:
        scale = packed["scale"].float()
        pieces[SCALE] = scale.numpy()
        lift = find_lift(scale, layer.scale_dtype)
        if bool((lift > 1).any()):
            pieces[LIFTED], pieces[LIFT] = (scale * lift).numpy(), (1 / lift).numpy()
    if "table" in packed:
        pieces[TABLE] = packed["table"].float().numpy()
    if branch is not None:
        pieces |= {f"{BRANCH} {side}": factor.float().numpy() for side, factor in zip("AB", branch, strict=True)}
    return pieces


def _to_numpy(codes: torch.Tensor) -> Array:
    return (codes.float() if codes.dtype.is_floating_point else codes).numpy()


def list_meant(component: Component, dtype: str) -> list[Meant]:
    """Every weight of a network, in the order it has them."""

    def find_layer(name: str) -> QuantizedLayer | None:
        return component.layers.get(name.removesuffix(".weight")) if name.endswith(".weight") else None

    return [Meant(name, handle, find_layer(name), dtype) for name, handle in component.weights.items()]
