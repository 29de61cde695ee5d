"""The rows of a report: what was drawn, compared component by component, picture by picture, and timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sprint_export.export.bundle import find_file, locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement
from sprint_export.psnr import psnr_images
from sprint_export.quantize.search.frontier import JSON, read_frontier
from sprint_export.validate.images import ssim_images

if TYPE_CHECKING:
    import numpy.typing as npt

    UInt8 = npt.NDArray[np.uint8]


def compare_pictures(exported: UInt8, rounded: UInt8 | None, reference: UInt8) -> list[Measurement]:
    """Whole pictures: exported against PyTorch float32, and where there is rounding, its two parts."""
    total = psnr_images(exported, reference)
    rows = [
        Measurement("psnr_db", float(total.mean()), "dB", note="exported vs PyTorch float32, mean over pictures"),
        Measurement("psnr_worst_db", float(total.min()), "dB", note="the worst picture"),
        Measurement("ssim", float(ssim_images(exported, reference).mean()), "", note="exported vs PyTorch float32"),
    ]
    if rounded is not None:
        rows.append(
            Measurement(
                "converter_image_psnr_db",
                float(psnr_images(exported, rounded).mean()),
                "dB",
                note="exported vs fake-quantized torch: the converter's part",
            )
        )
        rows.append(
            Measurement(
                "recipe_image_psnr_db",
                float(psnr_images(rounded, reference).mean()),
                "dB",
                note="fake-quantized torch vs float32: the recipe's part",
            )
        )
    return rows


def time_components(exported: Mapping[str, list[float]], reference: Mapping[str, list[float]]) -> list[Measurement]:
    """Latency percentiles by component; the first call of each is left out (it warms caches).

    `reference` holds seconds of pictures drawn in this run; there are none where all were kept from earlier runs.
    """
    rows = []
    ours = "this runtime" if reference else "this runtime; PyTorch's pictures were kept from an earlier run, so not timed"
    for role, seconds in exported.items():
        for name, values, note in (
            ("latency", seconds, ours),
            ("pytorch_latency", reference.get(role, []), "PyTorch float32"),
        ):
            warm = values[1:] or values
            if warm:
                for percent in (50, 90):
                    rows.append(
                        Measurement(f"{name}_p{percent}_ms", 1e3 * float(np.percentile(warm, percent)), "ms", role, note=note)
                    )
    return rows


def recall_search(bundle: Bundle) -> list[Measurement]:
    """What the search for the recipe promised, on its own prompts; nothing where the recipe was not searched."""
    if find_file(bundle, JSON) is None:
        return []
    found = read_frontier(locate(bundle, JSON))
    note = f"PSNR of the recipe on the {found.prompts} prompts of its search, +- {found.chosen.error_db:.1f}; torch, rounded"
    return [
        Measurement("searched_psnr_db", found.chosen.psnr_db, "dB", note=note),
        Measurement("recipe_cost", found.chosen.cost, found.unit, note="; ".join((found.unit, *found.notes[:1]))),
    ]


def weigh_files(bundle: Bundle) -> list[Measurement]:
    """Bytes on disk, by component and in all; a shadow is a check, not a part of what ships."""
    rows = []
    for record in bundle.components:
        size = sum(a.bytes for a in bundle.artifacts if a.role == record.role and a.kind in ("graph", "weights"))
        rows.append(Measurement("disk_mb", size / 1e6, "MB", record.role, note="graph and weights"))
    return rows


def count_silent_rules(bundle: Bundle) -> list[Measurement]:
    """Rewrite rules that met a form they do not know: the graph is right, its kernels are slower than they could be."""
    silent = [
        f"{record.role}: {name} fired {count.fired} of {count.expected} times"
        for record in bundle.components
        for name, count in record.rewrites.items()
        if count.fired < count.expected
    ]
    return [Measurement("silent_rules", len(silent), "rules", note="; ".join(silent) or "every rewrite fired where it had to")]
