"""Ops that move elements and compute nothing: shapes, slices, joins, look-ups.

They obey the program's arguments and not the declared result, which is compared afterwards.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sprint_export.runtimes.coreml.mil.arguments import Arguments, Function


def _reshape(given: Arguments) -> Tensor:
    """A 0 in `shape` copies the dimension of x at the same distance from the right, or is 1 beyond x; one -1 is inferred."""
    x, shape = given.tensor("x"), given.numbers("shape")
    places = range(x.ndim - len(shape), x.ndim)
    return x.reshape([size or (x.shape[place] if place >= 0 else 1) for size, place in zip(shape, places, strict=True)])


def _transpose(given: Arguments) -> Tensor:
    return given.tensor("x").permute(given.numbers("perm")).contiguous()


def _expand_dims(given: Arguments) -> Tensor:
    x, axes = given.tensor("x"), given.numbers("axes")
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(given: Arguments) -> Tensor:
    x = given.tensor("x")
    return x.squeeze(tuple(given.numbers("axes", range(x.ndim))))


def _split(given: Arguments) -> tuple[Tensor, ...]:
    x, axis = given.tensor("x"), given.number("axis")
    if given.has("split_sizes"):
        return tuple(torch.split(x, given.numbers("split_sizes"), axis))
    return tuple(torch.split(x, x.shape[axis] // given.number("num_splits"), axis))


def _concat(given: Arguments) -> Tensor:
    values, axis = given.tensors("values"), given.number("axis")
    if given.number("interleave", False):
        axis %= values[0].ndim
        return torch.stack(values, axis + 1).flatten(axis, axis + 1)
    return torch.cat(values, axis)


def _stack(given: Arguments) -> Tensor:
    return torch.stack(given.tensors("values"), given.number("axis"))


def _slice_by_index(given: Arguments) -> Tensor:
    """Begin, end and stride per axis as in Python; a mask opens a side; a squeezed axis keeps the element at its begin."""
    x = given.tensor("x")
    begin, end = given.numbers("begin"), given.numbers("end")
    stride = given.numbers("stride", [1] * x.ndim)
    masks = [given.numbers(f"{side}_mask", [False] * x.ndim) for side in ("begin", "end", "squeeze")]
    squeezed = [axis for axis in range(x.ndim) if masks[2][axis]]
    for axis in range(x.ndim):
        if axis in squeezed:
            x = x.narrow(axis, begin[axis] % x.shape[axis], 1)
            continue
        first, last = (None if mask[axis] else side[axis] for side, mask in ((begin, masks[0]), (end, masks[1])))
        places = range(*slice(first, last, stride[axis]).indices(x.shape[axis]))
        x = (
            x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
            if len(places) < x.shape[axis] or stride[axis] < 0
            else x
        )
    return x.squeeze(tuple(squeezed)) if squeezed else x


def _slice_by_size(given: Arguments) -> Tensor:
    x = given.tensor("x")
    for axis, (begin, size) in enumerate(zip(given.numbers("begin"), given.numbers("size"), strict=True)):
        begin %= x.shape[axis]
        x = x.narrow(axis, begin, x.shape[axis] - begin if size == -1 else size)
    return x


def _tile(given: Arguments) -> Tensor:
    return given.tensor("x").tile(given.numbers("reps"))


def _pad(given: Arguments) -> Tensor:
    """`pad` lists (before, after) of the last axes from the left; torch lists them from the right."""
    x, pad, mode = given.tensor("x"), given.numbers("pad"), given.text("mode", "constant")
    reversed_pad = [amount for i in range(len(pad) - 2, -1, -2) for amount in pad[i : i + 2]]
    if mode == "constant":
        return F.pad(x, reversed_pad, value=given.number("constant_val", 0.0))
    if mode not in ("reflect", "replicate"):
        raise given.refuse(f"pad mode {mode!r}")
    while len(reversed_pad) > 2 and reversed_pad[-2:] == [0, 0]:
        reversed_pad = reversed_pad[:-2]
    spatial = len(reversed_pad) // 2
    flat = x.reshape(1, -1, *x.shape[-spatial:])
    padded = F.pad(flat, reversed_pad, mode=mode)
    return padded.reshape(*x.shape[: x.ndim - spatial], *padded.shape[2:])


def _gather(given: Arguments) -> Tensor:
    x, indices, axis = given.stored("x"), given.stored("indices"), given.number("axis", 0)
    if given.number("batch_dims", 0):
        raise given.refuse("gather with batch_dims")
    axis %= x.ndim
    flat = _wrap(indices, x.shape[axis]).flatten()
    found = x.index_select(axis, flat).reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return found.to(given.compute) if found.is_floating_point() else found


def _gather_along_axis(given: Arguments) -> Tensor:
    x, axis = given.tensor("x"), given.number("axis", 0)
    return torch.gather(x, axis, _wrap(given.stored("indices"), x.shape[axis]))


def _wrap(indices: Tensor, size: int) -> Tensor:
    """Negative indices count from the end."""
    return torch.where(indices < 0, indices + size, indices).to(torch.int64)


def _pixel_shuffle(given: Arguments) -> Tensor:
    return F.pixel_shuffle(given.tensor("x"), given.number("upscale_factor"))


def _pixel_unshuffle(given: Arguments) -> Tensor:
    return F.pixel_unshuffle(given.tensor("x"), given.number("downscale_factor"))


def _upsample_nearest(given: Arguments) -> Tensor:
    x = given.tensor("x")
    for axis, name in ((-2, "scale_factor_height"), (-1, "scale_factor_width")):
        factor = given.number(name, 1)
        if factor != math.floor(factor):
            raise given.refuse(f"{name} {factor}")
        x = x.repeat_interleave(int(factor), axis)
    return x


def _reverse(given: Arguments) -> Tensor:
    x = given.tensor("x")
    return x.flip(given.numbers("axes", range(x.ndim)))


def _shape(given: Arguments) -> Tensor:
    return torch.tensor(given.stored("x").shape, dtype=torch.int64)


def _fill(given: Arguments) -> Tensor:
    return torch.full(given.numbers("shape"), given.number("value", 0.0))


def _range(given: Arguments) -> Tensor:
    return torch.arange(given.number("start"), given.number("end"), given.number("step"))


OPS: dict[str, Function] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "split": _split,
    "concat": _concat,
    "stack": _stack,
    "slice_by_index": _slice_by_index,
    "slice_by_size": _slice_by_size,
    "tile": _tile,
    "pad": _pad,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "upsample_nearest_neighbor": _upsample_nearest,
    "reverse": _reverse,
    "shape": _shape,
    "fill": _fill,
    "range_1d": _range,
}
