"""All that a validation finds: rows that need pictures, rows that need files alone, and a row of each picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from sprint_export.compute import Compute
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement, PictureRow
from sprint_export.nouns.student import Student
from sprint_export.quantize.patterns import is_pointwise
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_like
from sprint_export.students.family import load_family
from sprint_export.validate.confidence.evidence import Evidence
from sprint_export.validate.drawing import Sides, picture_side
from sprint_export.validate.image_metrics.measuring import Measured
from sprint_export.validate.images import relative_error
from sprint_export.validate.judging import judge_pictures
from sprint_export.validate.measure import (
    compare_decoders,
    compare_pictures,
    count_silent_rules,
    count_unpaid,
    find_worst,
    list_pictures,
    recall_search,
    time_components,
    weigh_files,
)
from sprint_export.validate.pace import FEWEST, LOOKS, SMALL_PICTURE
from sprint_export.validate.sampled import Sampled


@dataclass(frozen=True)
class Findings:
    """What a report is made of, before its gates are applied.

    Args:
        rows: all, with intervals.
        samples: by metric, what the rows of whole pictures stand on.
        pictures: one row each.
        unchecked: a sentence on each thing that could not be checked here.
    """

    rows: tuple[Measurement, ...]
    samples: Mapping[str, Evidence]
    pictures: tuple[PictureRow, ...]
    unchecked: tuple[str, ...] = field(default=())


def find_all(
    bundle: Bundle, student: Student, prompts: Sequence[str], sides: Sides, compute: Compute, measured: Measured | None = None
) -> Findings:
    """Everything about the drawn pictures, uint8 [B, H, W, 3], of `prompts` [B], and about the bundle's files.

    `measured` is what metrics beside those of every report gave.
    """
    measured = measured or Measured()
    exported, reference = sides.exported, sides.reference
    records = {record.role: record for record in bundle.components}
    samples = compare_pictures(exported.pictures, sides.rounded, reference.pictures, sides.is_fed)
    is_steered = bundle.chain.names.scale in bundle.chain.list_given(records)
    judged = judge_pictures(prompts, exported.pictures, reference.pictures, is_steered)
    samples += judged.samples + _compare_own_decoder(bundle, student, sides, compute) + measured.samples
    rows = [
        *sides.rows,
        _measure_denoised(bundle, sides),
        samples[0].as_row(sides.confidence),
        find_worst(samples[0], sides.confidence),
        *(each.as_row(sides.confidence) for each in samples[1:]),
        *judged.rows,
        *measured.list_sets(sides.confidence),
        Measurement("quantized_share", quantized_share(bundle, student), "", note="of matmul and 1x1-convolution weights"),
        *time_components(exported.seconds, reference.seconds),
        *recall_search(bundle),
        *count_unpaid(bundle),
        *weigh_files(bundle),
        *count_silent_rules(bundle),
        *load_target(bundle.target).read_rows(bundle),
    ]
    return Findings(
        tuple(rows),
        {each.metric: each.evidence for each in samples},
        list_pictures(prompts, samples, judged.flipped),
        tuple(measured.unchecked),
    )


def _measure_denoised(bundle: Bundle, sides: Sides) -> Measurement:
    error = relative_error(sides.exported.latents, sides.reference.latents)
    note = "this network and those before it together vs PyTorch float32, the largest"
    role = bundle.chain.find_writer(bundle.chain.names.denoised, {record.role: record for record in bundle.components})
    return Measurement("denoised_relative_error", error, "", role or "", note=note)


def _compare_own_decoder(bundle: Bundle, student: Student, sides: Sides, compute: Compute) -> list[Sampled]:
    """Where the bundle draws with another decoder than the student's own."""
    if student.parts.decoder is None:
        return []
    few = LOOKS[0] if picture_side(bundle) <= SMALL_PICTURE else FEWEST
    own = load_family(student.family).decode_own(student, sides.reference.latents[:few], compute)
    return compare_decoders(sides.exported.pictures, sides.reference.pictures, own)


def quantized_share(bundle: Bundle, student: Student) -> float:
    """Share of the values in Linear and dense 1x1 Conv2d weights that are stored quantized, over all components."""
    stored = total = 0
    specialized = specialize_like(student, bundle)
    for record in bundle.components:
        for name, module in specialized.components[record.role].module.named_modules():
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and is_pointwise(module):
                total += module.weight.numel()
                stored += module.weight.numel() * (name in record.layers)
    return stored / total
