"""What quantization does to weights before they are rounded, as small arrays by weight name.

    W' = diag(<name>/rows) W diag(<name>/columns) + <name>/added        W'[1, h, n, d] = W[1, h, n, d] <name>/heads[h d]
    W' = <name>/codes * <name>/scales in place of W, two 4-bit codes a byte
Smoothing scales rows and columns, bias correction adds to biases, GPTQ replaces weights. The arrays are kept beside the exported
graph, so that whoever checks it later makes the same weights from the student's own, without the calibration they came from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sprint_export.errors import BundleError
from sprint_export.files import write_whole
from sprint_export.nouns.student import Component, Migration
from sprint_export.weights import Handle, LazyHandle, widen_dtype

Edits = Mapping[str, torch.Tensor]
EDITS_FILE = "quantization.safetensors"  # in the component's folder of a bundle
KINDS = ("rows", "columns", "heads", "added", "codes", "scales")
LOWEST = -8  # of 4 bits


def edit_component(component: Component, edits: Edits) -> Component:
    """The component with these edits on top of those it has; weights stay lazy.

    Raises:
        BundleError: an edit is for a weight the component does not have, or of another size, or codes and scales come alone.
    """
    new: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in edits.items():
        name, _, kind = key.rpartition("/")
        handle = component.weights.get(name)
        if kind not in KINDS or handle is None or not _fits(value, handle, kind):
            wanted = "no such weight" if handle is None else f"the weight has shape {tuple(handle.shape)}"
            raise BundleError(
                f"{component.role}: edit {key!r} of shape {tuple(value.shape)} does not fit ({wanted}); expected "
                f"<weight>/{'|'.join(KINDS)} for this student's weights. Export the student again"
            )
        new.setdefault(name, {})[kind] = value
    for name, kinds in new.items():
        if ("codes" in kinds) != ("scales" in kinds):
            found = "codes" if "codes" in kinds else "scales"
            raise BundleError(
                f"{component.role}: {name} has {found} alone, expected codes and scales together; copy the bundle or export the "
                "student again"
            )
    weights = {**component.weights, **{name: _edit(component.weights[name], kinds) for name, kinds in new.items()}}
    return dataclasses.replace(component, weights=weights, edits=join_edits(component.edits, edits))


def scale_channels(component: Component, migration: Migration, factors: torch.Tensor) -> Component:
    """Multiply what a migration's producers make by `factors` [channels], and divide where it is read: the same function."""
    edits = {f"{name}/rows": factors for name in migration.producers}
    edits |= {f"{name}/heads": factors for name in migration.held}
    read = 1 / factors[list_channels(migration, len(factors))]
    return edit_component(component, edits | {f"{layer}.weight/columns": read for layer in migration.consumers})


def list_channels(migration: Migration, size: int) -> torch.Tensor:
    """Which of the producer's `size` channels each input channel of the consumers is."""
    return torch.tensor(migration.channels) if migration.channels else torch.arange(size)


def _fits(value: torch.Tensor, handle: Handle, kind: str) -> bool:
    shape, found = handle.shape, tuple(value.shape)
    inner = math.prod(shape[1:])
    if kind == "codes":
        return found == (shape[0], -(-inner // 2)) and value.dtype == torch.uint8
    if not value.is_floating_point():
        return False
    if kind == "heads":
        return len(shape) == 4 and found == (shape[1] * shape[3],)
    if kind == "scales":
        return len(found) == 2 and found[0] == shape[0] and found[1] > 0 and inner % found[1] == 0
    axis = 1 if kind == "columns" else 0
    return found == tuple(shape[axis : axis + 1])


def pack_codes(codes: torch.Tensor) -> torch.Tensor:
    """Codes -8 to 7, int8 [out, in], two a byte: uint8 [out, in / 2], the first in the low half."""
    shifted = torch.nn.functional.pad((codes - LOWEST).to(torch.uint8), (0, codes.shape[1] % 2))
    packed: torch.Tensor = shifted[:, ::2] | shifted[:, 1::2] << 4
    return packed


def restore_codes(packed: torch.Tensor, scales: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight float32 of this shape that packed codes and scales [out, groups] stand for."""
    inner = math.prod(shape[1:])
    codes = torch.stack((packed & 15, packed >> 4), dim=2).flatten(1)[:, :inner].float() + LOWEST
    weight: torch.Tensor = codes.unflatten(1, (scales.shape[1], -1)) * scales.float()[:, :, None]
    return weight.reshape(shape)


def join_edits(first: Edits, second: Edits) -> dict[str, torch.Tensor]:
    """Both, one after the other: factors multiply, addends add (nothing scales a bias after it was added to), codes replace."""
    joined = dict(first)
    for key, value in second.items():
        if key in joined and not key.endswith(("/codes", "/scales")):
            joined[key] = joined[key] + value if key.endswith("/added") else joined[key] * value
        else:
            joined[key] = value
    return joined


class _EditedHandle(LazyHandle):
    """Its tensor is made anew at each load, so the edit behind it may write into it."""


def _edit(handle: Handle, kinds: Mapping[str, torch.Tensor]) -> Handle:
    dtype = widen_dtype(handle.dtype)
    tail = (1,) * (len(handle.shape) - 1)
    is_own = isinstance(handle, _EditedHandle)

    def compute() -> torch.Tensor:
        if "codes" in kinds:  # of a weight that was edited before: nothing is left to multiply
            return restore_codes(kinds["codes"], kinds["scales"], handle.shape)
        stored = handle.load()
        value = stored.to(dtype)
        for kind, shape in (("rows", (-1, *tail)), ("columns", (1, -1, *tail[1:])), ("heads", (1, *value.shape[1:2], 1, -1))):
            if kind in kinds:
                factors = kinds[kind].to(dtype).reshape(shape)
                value = value * factors if value is stored and not is_own else value.mul_(factors)
        return value + kinds["added"].to(dtype).reshape(-1, *tail) if "added" in kinds else value

    return _EditedHandle(handle.shape, dtype, compute)


def write_edits(edits: Edits, folder: Path) -> None:
    """Keep them beside the graph; no file where there are none."""
    if edits:
        tensors = {key: value.contiguous().clone() for key, value in edits.items()}
        write_whole(folder / EDITS_FILE, lambda part: save_file(tensors, part))


def read_edits(path: Path | None) -> dict[str, torch.Tensor]:
    """What `write_edits` wrote, from the file's own path; nothing where there is no such file.

    Raises:
        BundleError: the file is damaged.
    """
    if path is None:
        return {}
    try:
        found: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: a type that torch does not have
        raise BundleError(f"{path} is damaged ({error!r}); copy the bundle or export the student again") from error
    for key, value in found.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise BundleError(f"{path} holds NaN or infinity in {key!r}; copy the bundle or export the student again")
    return found
