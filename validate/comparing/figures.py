"""Figures of an entry: its pictures against the reference, and against the best entry's, both picture by picture.

A picture that could not be drawn counts as the black one that stands for it, so an entry cannot win by failing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sprint_export.nouns.report import Gate, Measurement
from sprint_export.psnr import psnr_images
from sprint_export.validate.comparing.drawing import Side
from sprint_export.validate.comparing.entry import Label
from sprint_export.validate.confidence.means import mean_interval
from sprint_export.validate.image_metrics.measuring import Measured as ImageMeasured
from sprint_export.validate.images import ssim_images
from sprint_export.validate.judging import DROPPED, judge_pictures
from sprint_export.validate.rows import Rows, map_rows

PSNR, SSIM, LATENCY, SIZE, BLANK = "psnr_db", "ssim", "latency_p50_ms", "disk_mb", "blank_pictures"
NO_BLANKS = Gate(BLANK, "<=", 0, "a picture of one colour, or of no numbers, shows nothing")
UNITS = {PSNR: "dB"}
SSIM_WINDOW = 7  # pixels: smaller pictures have no SSIM
MEASURED, ALONE = "measured in turn with the other entries", "measured before or after the other entries, not in turn"
SAID = "as its own file says; not measured here"

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """What was measured of one entry.

    Args:
        rows: of a report.
        figures: values by metric, one a picture.
        unchecked: a sentence on each metric that could not be measured.
        flipped: places of pictures that a judge says show something else than the reference's.
    """

    rows: tuple[Measurement, ...]
    figures: Mapping[str, Float64]
    unchecked: tuple[str, ...] = ()
    flipped: tuple[int, ...] = ()

    def join(self, found: ImageMeasured) -> Measured:
        """With what image metrics gave."""
        return replace(
            self, rows=(*self.rows, *found.rows), figures={**self.figures, **found.figures}, unchecked=tuple(found.unchecked)
        )


def measure_entry(entry: Label, side: Side, prompts: Sequence[str], reference: Rows) -> Measured:
    """An entry's pictures against the reference's [B, H, W, 3]; what it took, and what it weighs."""
    pictures = side.pictures
    figures = {PSNR: map_rows(psnr_images, pictures, reference)}
    if min(reference.shape[1:3]) >= SSIM_WINDOW:
        figures[SSIM] = map_rows(ssim_images, pictures, reference)
    rows = [average(name, values, "against stock PyTorch in float32") for name, values in figures.items()]
    rows.append(Measurement("psnr_worst_db", float(figures[PSNR].min()), "dB", note="the worst picture"))
    judged = judge_pictures(prompts, pictures, reference)
    rows += [*(each.as_row() for each in judged.samples), *judged.rows]
    told = "; ".join(f"{fault.place}: {fault.kind}" for fault in side.faults[:8]) or "none"
    rows.append(Measurement(BLANK, float(len(side.faults)), "pictures", note=f"of one colour, no numbers, or not drawn: {told}"))
    if side.seconds:
        note = SAID if not entry.is_measured else MEASURED if entry.is_in_turn else ALONE
        interval = median_interval(side.seconds) if entry.is_measured else None
        rows.append(Measurement(LATENCY, 1e3 * float(np.median(side.seconds)), "ms", note=note, interval=interval))
    if entry.bytes is not None:
        rows.append(Measurement(SIZE, entry.bytes / 1e6, "MB", note="graphs and weights" if entry.is_measured else SAID))
    return Measured(tuple(rows), figures, flipped=tuple(place for place, names in enumerate(judged.flipped) if names))


def average(name: str, values: Float64, note: str) -> Measurement:
    """A metric's mean over pictures, with its interval."""
    return Measurement(name, float(values.mean()), UNITS.get(name, ""), note=note, interval=mean_interval(values))


def median_interval(seconds: Sequence[float]) -> tuple[float, float] | None:
    """Where the median of what such a picture takes lies with 95 % confidence, in ms, by order statistics; None of too few."""
    from scipy.stats import quantile_test

    if len(seconds) < 2:
        return None
    found = quantile_test(seconds, q=float(np.median(seconds)), p=0.5).confidence_interval(0.95)
    low, high = 1e3 * float(found.low), 1e3 * float(found.high)
    return (low, high) if np.isfinite((low, high)).all() else None


def compare_pair(
    found: Measured, best: Measured, sides: tuple[Side, Side], prompts: Sequence[str], is_timed: bool = True
) -> tuple[Measurement, ...]:
    """One entry minus the best, prompt by prompt, with intervals.

    Args:
        found: the entry.
        best: the best one.
        sides: theirs, in this order.
        prompts: that were drawn.
        is_timed: whether both drew each prompt in turn, so that their seconds are pairs.
    """
    note = "this entry minus the best, picture by picture"
    rows = [
        average(f"{name}_difference", values - best.figures[name], note)
        for name, values in found.figures.items()
        if name in best.figures
    ]
    rows = [replace(row, unit=UNITS.get(row.metric.removesuffix("_difference"), "")) for row in rows]
    ours, theirs = sides
    judged = [each.as_row() for each in judge_pictures(prompts, ours.pictures, theirs.pictures).samples if each.metric == DROPPED]
    rows += [replace(row, note=f"the best as the reference: {row.note}") for row in judged]
    seconds = [np.array(side.seconds) for side in sides]
    if is_timed and len(seconds[0]) == len(seconds[1]) == len(prompts):
        rows.append(compare_seconds(seconds[0], seconds[1]))
    return tuple(rows)


def compare_seconds(ours: Float64, theirs: Float64) -> Measurement:
    """How many times the best's seconds a picture takes: the geometric mean over prompts, each pair drawn in turn."""
    ratios = np.log(ours / theirs)
    interval = mean_interval(ratios)
    sure = None if interval is None else (float(np.exp(interval[0])), float(np.exp(interval[1])))
    note = "seconds of this entry over the best's, geometric mean over pairs"
    return Measurement("latency_ratio", float(np.exp(ratios.mean())), "times", note=note, interval=sure)
