"""What the metrics that run a network share: pictures as tensors, a few at a time, on the device; a wheel's own weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sprint_export.compute import Compute, Place
from sprint_export.libraries import is_installed, missing_library
from sprint_export.validate.image_metrics.metric import UnmeasuredError

if TYPE_CHECKING:
    import torch

    from sprint_export.validate.image_metrics.metric import Float64, UInt8
    from sprint_export.validate.rows import Rows

TORCHMETRICS = "torchmetrics"
PIXELS_AT_ONCE = 1_048_576  # of pictures that run together: VGG16's first layers hold 0.5 GB of them


def find_library_fault(*modules: str) -> str | None:
    """A sentence with the pip command where a library is missing."""
    missing = [module for module in modules if not is_installed(module)]
    return str(missing_library(*missing)) if missing else None


def read_wheel_weights(*parts: str) -> dict[str, torch.Tensor]:
    """A small state_dict that lies in torchmetrics' wheel, by its path in the package; the package itself is not imported.

    Raises:
        UnmeasuredError: this version of it has no such file.
    """
    from sprint_export.validate.image_metrics.weight_files import read_state

    spec = importlib.util.find_spec(TORCHMETRICS)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    paths = [Path(folder).joinpath(*parts) for folder in folders]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise UnmeasuredError(f"torchmetrics has no {'/'.join(parts)}; expected version 1.9 or one near it")
    return read_state(found)


def split_pictures(pictures: Rows, at_once: int = PIXELS_AT_ONCE, least: int = 0) -> Iterator[slice]:
    """Slices of uint8 [B, H, W, 3] with at most so many pixels each, and at least one picture.

    `least`: the side in pixels to which a network enlarges pictures that are smaller.
    """
    count = max(1, at_once // max(pictures.shape[1] * pictures.shape[2], least * least))
    yield from (slice(start, start + count) for start in range(0, len(pictures), count))


def to_unit(pictures: UInt8, compute: Compute) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] from 0 to 1, on the device."""
    import torch

    return compute.place(torch.from_numpy(np.ascontiguousarray(pictures))).permute(0, 3, 1, 2).float() / 255


def run_pairs(
    network: torch.nn.Module,
    pairs: tuple[Rows, Rows],
    compute: Compute,
    title: str,
    distance: Callable[[Any, Any], torch.Tensor],
) -> Float64:
    """A distance float64 [B] of each pair of pictures uint8 [B, H, W, 3], a few at a time; on the CPU where they do not fit."""
    import torch

    first, second = pairs
    place, found = Place(compute, title), []
    for part in split_pictures(first):

        def measure(part: slice = part) -> torch.Tensor:
            network.eval().to(place.compute.device)
            with torch.inference_mode(), place.compute.exact():
                return distance(to_unit(first[part], place.compute), to_unit(second[part], place.compute)).double().cpu()

        found.append(place.attempt(measure, network))
    return np.asarray(torch.cat(found).numpy(), np.float64)
