"""A report with everything in it, over a bundle of a few bytes: made up, and as hostile as one likes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sprint_export.export.bundle import write_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.recipe import Decision
from sprint_export.nouns.report import BlockError, Measurement, PictureRow, Report
from tests.small_bundle import make_small_bundle

UInt8 = npt.NDArray[np.uint8]
COUNT, SIDE = 30, 32
FLIPPED = 4
UNDECIDED = 5  # the picture whose figures are no numbers
PSNR = [40.0 + (7 * i) % COUNT for i in range(COUNT)]

ROWS = (
    Measurement("psnr_db", 45.5, "dB", "", "psnr_db>=55", "not met", "exported vs PyTorch", (43.2, 47.8)),
    Measurement("adherence_drop_points", 0.0, "points", "", "adherence_drop_points<=2", "not decided", "", (-2.97, 2.97), 770),
    Measurement("quantized_share", 0.97, "", "", "quantized_share>=0.9", "met", "of the weights"),
    Measurement("ssim", 0.998, "", interval=(0.9975, 0.9985)),
    Measurement("flips", math.nan, "pictures", note="not a number"),
    Measurement("disk_mb", 1.0, "MB", "text_encoder", note="graph and weights"),
    Measurement("disk_mb", 3.0, "MB", "transformer", note="graph and weights"),
    Measurement("latency_p50_ms", 12.5, "ms", "transformer"),
    Measurement("engine_mb", 2.0, "MB", "transformer", note="an engine"),
    Measurement("kernels", 76.0, "", "transformer", note="in the engine"),
    Measurement("converter_relative_error", math.inf, "", "transformer"),
)


def make_bundle(folder: Path) -> Bundle:
    """One whose transformer has four blocks of two layers and two layers beside them, written into a new folder."""
    made = add_layers(make_small_bundle(folder), "attn.to_q", "they are fast")
    write_bundle(made)
    return made


def add_layers(bundle: Bundle, layer: str, reason: str) -> Bundle:
    """The bundle with what a recipe decided of its transformer; one layer of each block is called so, for that reason."""
    decisions = [Decision("transformer.patch_embed.proj", "float", "transformer.patch_embed.*", "entry layer", 3072, True)]
    for block in range(4):
        name = f"transformer.transformer_blocks.{block}"
        decisions.append(Decision(f"{name}.{layer}", "fp8", "*", reason, 36_864, True))
        decisions.append(Decision(f"{name}.conv_depth", "float", "*", "depthwise", 8640, False, is_refused=True))
    decisions.append(Decision("transformer.proj_out", "float", "transformer.proj_out", "exit layer", 3072, True))
    records = [replace(r, decisions=tuple(decisions)) if r.role == "transformer" else r for r in bundle.components]
    return replace(bundle, components=tuple(records))


def make_pictures() -> tuple[UInt8, UInt8]:
    """Reference and exported, uint8 [COUNT, SIDE, SIDE, 3]: noise, and noise beside it."""
    random = np.random.default_rng(0)
    reference = random.integers(0, 250, (COUNT, SIDE, SIDE, 3), np.uint8)
    return reference, reference + random.integers(0, 6, reference.shape, np.uint8)


def make_report(prompt: str = "a red circle", rows: tuple[Measurement, ...] = ROWS) -> Report:
    """With a picture that flipped, one without numbers, and a transformer whose third block departs."""
    pictures = [PictureRow(i, f"{prompt} {i}", {"psnr_db": PSNR[i], "ssim": 0.9 + i / 1000}) for i in range(COUNT)]
    pictures[FLIPPED] = replace(pictures[FLIPPED], flipped=("adherence_percent",))
    pictures[UNDECIDED] = replace(pictures[UNDECIDED], figures={"psnr_db": math.nan, "ssim": math.inf})
    blocks = [
        BlockError("transformer", f"transformer_blocks.{i}", i, 60.0 - i - 20 * (i > 1), 0.01, 60.0 - i, i == 2) for i in range(4)
    ]
    blocks += [BlockError("vae_decoder", "conv_in", 0, 55.0, 0.002), BlockError("vae_decoder", "conv_out", 1, math.nan, math.nan)]
    unchecked = ("Engines were not run: no GPU.",)
    return Report("folder", "trt-fp8", "a runtime", "a machine", COUNT, rows, 12.0, tuple(pictures), tuple(blocks), unchecked)
