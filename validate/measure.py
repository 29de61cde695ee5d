"""The rows of a report: what was drawn, compared component by component, picture by picture, and timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sprint_export.export.bundle import find_file, locate
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import UNPAID
from sprint_export.nouns.report import Measurement, PictureRow
from sprint_export.psnr import psnr_images
from sprint_export.quantize.search.frontier import JSON, read_frontier
from sprint_export.validate.confidence.decisions import CONFIDENCE
from sprint_export.validate.images import ssim_images
from sprint_export.validate.memory import plan_memory
from sprint_export.validate.rows import Rows, map_rows
from sprint_export.validate.sampled import Sampled, sample_mean

UInt8 = npt.NDArray[np.uint8]


def compare_pictures(exported: Rows, rounded: UInt8, reference: Rows, is_fed: bool = False) -> list[Sampled]:
    """Whole pictures: exported against PyTorch float32, and its two parts.

    Args:
        exported: [B, H, W, 3].
        rounded: of torch with the same rounding; of the first prompts, if not of all.
        reference: [B, H, W, 3].
        is_fed: the rounded networks were fed what the exported ones were.
    """
    few = len(rounded)
    fed = "; each network was fed what the exported one was" if is_fed else ""
    converter = "exported vs fake-quantized torch, {}: the " + ("last network's" if is_fed else "converter's") + f" part{fed}"
    recipe = f"fake-quantized torch vs float32, {{}}: the recipe's part{fed}"
    return [
        measure_psnr(exported, reference),
        measure_ssim(exported, reference),
        sample_mean("converter_image_psnr_db", "dB", converter, map_rows(psnr_images, exported[:few], rounded)),
        sample_mean("recipe_image_psnr_db", "dB", recipe, map_rows(psnr_images, rounded, reference[:few])),
    ]


def measure_psnr(exported: Rows, reference: Rows) -> Sampled:
    """PSNR of each picture."""
    values = map_rows(psnr_images, exported, reference)
    return sample_mean("psnr_db", "dB", "exported vs PyTorch float32, mean over {}", values)


def measure_ssim(exported: Rows, reference: Rows) -> Sampled:
    """SSIM of each picture."""
    return sample_mean("ssim", "", "exported vs PyTorch float32", map_rows(ssim_images, exported, reference))


def find_worst(psnr: Sampled, confidence: float = CONFIDENCE) -> Measurement:
    """The worst drawn picture, and what it says of those not drawn: Wilks' one-sided tolerance limit of n values.

    If more than 1 - q of all prompts were worse, n drawn ones would hold none of those with a chance below q^n.
    """
    assert psnr.values is not None
    place, count = int(psnr.values.argmin()), len(psnr.values)
    share = 100 * (1 - confidence) ** (1 / count)
    note = (
        f"the worst of the drawn, number {place}; a limit on it holds for these {count} alone: of all prompts it says, at "
        f"{100 * confidence:.3g} %, that {share:.3g} % or more have no worse a picture"
    )
    return Measurement("psnr_worst_db", float(psnr.values.min()), "dB", note=note)


def compare_decoders(exported: Rows, reference: Rows, own: UInt8) -> list[Sampled]:
    """What another decoder makes of pictures: exported ones beside those of the student's own decoder, of the first prompts.

    Args:
        exported: [B, H, W, 3].
        reference: PyTorch's with the other decoder.
        own: PyTorch's with the student's own, of the same latents as the reference's.
    """
    few = len(own)
    alone = float(psnr_images(reference[:few], own).mean())
    note = (
        f"exported vs the student's own decoder in float32, mean over {{}}; the other decoder alone, in float32: {alone:.1f} dB"
    )
    return [sample_mean("own_decoder_psnr_db", "dB", note, psnr_images(exported[:few], own))]


def list_pictures(
    prompts: Sequence[str], samples: Iterable[Sampled], flipped: Sequence[tuple[str, ...]]
) -> tuple[PictureRow, ...]:
    """A row of each drawn prompt, with the figures that there are of all of them."""
    figures = {each.metric: each.values for each in samples if each.values is not None and len(each.values) == len(prompts)}
    return tuple(PictureRow(place, prompt, figures_of(figures, place), flipped[place]) for place, prompt in enumerate(prompts))


def figures_of(figures: Mapping[str, npt.NDArray[np.float64]], place: int) -> dict[str, float]:
    """A picture's own figures by metric, of values float64 [B] each; without nan, which a picture has that has none."""
    return {name: float(values[place]) for name, values in figures.items() if not np.isnan(values[place])}


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


def count_unpaid(bundle: Bundle) -> list[Measurement]:
    """Layers left in float because the priced engine is as fast without their rounding; nothing where there are none."""
    layers = [each for record in bundle.components for each in record.decisions if each.reason.startswith(UNPAID)]
    rules = Counter((each.rule, each.reason.removeprefix(UNPAID).removeprefix(": ")) for each in layers)
    note = "; ".join(f"{rule} ({count}): {why}" for (rule, why), count in rules.items())
    return [Measurement("unpaid_layers", len(layers), "layers", note=note)] if layers else []


def weigh_files(bundle: Bundle) -> list[Measurement]:
    """Bytes on disk, by component and in all; a shadow is a check, not a part of what ships."""
    rows = []
    for record in bundle.components:
        size = sum(a.bytes for a in bundle.artifacts if a.role == record.role and a.kind in ("graph", "weights"))
        rows.append(Measurement("disk_mb", size / 1e6, "MB", record.role, note="graph and weights"))
    return [*rows, *plan_memory(bundle)]


def count_silent_rules(bundle: Bundle) -> list[Measurement]:
    """Rewrite rules that met a form they do not know: the graph is right, its kernels are slower than they could be."""
    silent = [
        f"{record.role}: {name} fired {count.fired} of {count.expected} times"
        for record in bundle.components
        for name, count in record.rewrites.items()
        if count.fired < count.expected
    ]
    return [Measurement("silent_rules", len(silent), "rules", note="; ".join(silent) or "every rewrite fired where it had to")]
