"""Free axes of a graph: what capture is told of them, and their names in what comes out.

    TensorSpec "2*height"  --make_example-->  2 * Dim("height")  --capture-->  2*s75  --name_axes-->  2*height
Shapes of values are then arithmetic on the specs' names (`height*width`, `32*height`), which passes and rewrites calculate with.
A graph without free axes is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch.export import Dim

from sprint_export.nouns.student import Component, TensorSpec
from sprint_export.sizes import read_axis

# Sizes that capture is shown. They differ, so that no axis is taken for another, and are neither 0 nor 1, which it would fix.
_SHOWN = (6, 10)


def make_example(specs: Sequence[TensorSpec]) -> tuple[tuple[torch.Tensor, ...], tuple[dict[int, Any], ...] | None]:
    """Empty inputs on `meta`, and for torch.export which axes of each are free; None where none is."""
    named = [[(axis, *read_axis(size)) for axis, size in enumerate(spec.shape) if isinstance(size, str)] for spec in specs]
    names = dict.fromkeys(name for axes in named for _, _, name in axes)
    dims, shown = {name: Dim(name) for name in names}, dict(zip(names, _SHOWN, strict=False))
    assert len(shown) == len(names), f"{list(names)}: at most {len(_SHOWN)} axes of a component are free"
    example = []
    for spec, axes in zip(specs, named, strict=True):
        shape = [size if isinstance(size, int) else 0 for size in spec.shape]
        for axis, multiple, name in axes:
            shape[axis] = multiple * shown[name]
        example.append(torch.zeros(shape, dtype=getattr(torch, spec.dtype), device="meta"))
    free = tuple({axis: dims[name] if n == 1 else n * dims[name] for axis, n, name in axes} for axes in named)
    return tuple(example), free if names else None


def name_axes(model: ir.Model, component: Component) -> None:
    """Call free axes in all shapes of a captured graph what the specs call them, in place."""
    symbols = _find_symbols(model, component)
    if not symbols:
        return
    known: dict[str, ir.SymbolicDim] = {}

    def rename(size: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
        if isinstance(size, int) or size.value is None:
            return size
        if size.value not in known:
            text = re.sub(r"[A-Za-z_]\w*", lambda found: symbols.get(found[0], found[0]), size.value)
            known[size.value] = ir.SymbolicDim(text).simplify()  # one way to write each: equal sizes compare as equal
        return known[size.value]

    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape([rename(size) for size in value.shape])
    for value, spec in zip(model.graph.outputs, component.outputs, strict=True):
        assert value.shape == ir.Shape(spec.shape), f"{spec.name} came out as {value.shape}, its spec says {list(spec.shape)}"


def _find_symbols(model: ir.Model, component: Component) -> dict[str, str]:
    """Capture's names for free axes -> the specs' names."""
    symbols: dict[str, str] = {}
    for value, spec in zip(model.graph.inputs, component.inputs, strict=True):
        for found, size in zip(value.shape or (), spec.shape, strict=True):
            if isinstance(size, str):
                assert isinstance(found, ir.SymbolicDim), f"{spec.name} came out as {value.shape}, its spec says {size!r} is free"
                symbols |= {symbol: read_axis(size)[1] for symbol in found.free_symbols()}
    return symbols
