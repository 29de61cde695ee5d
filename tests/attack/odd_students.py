"""Right students of odd shapes through two roads: the departures check must say nothing, and the picture be stock diffusers'.

    python -m tests.attack.odd_students --count 200 --seed 0 --out benchmarks/results/odd_students.json

coreml-fp16 is searched operation by operation and drawn by the checker, onnx-int8 is drawn by ONNX Runtime. Widths, heads, head
sizes, layers, channels, norms of queries and keys, ranges of the weights and step counts are drawn from a seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.conversion import convert
from sprint_export.errors import SprintExportError
from sprint_export.nouns.bundle import Bundle
from sprint_export.progress import quiet
from sprint_export.psnr import psnr_images
from sprint_export.registry import load_target
from sprint_export.runtimes import open_bundle
from sprint_export.students import load_student
from sprint_export.students.family import Draws
from sprint_export.validate.side_by_side import draw_rounded, pair_components
from tests.attack.forks import describe_error
from tests.attack.outcomes import CLEAN, GATE, RIGHT, TRACEBACK, WRONG, Tally
from tests.made_student import PROMPTS, Array, draw_stock, make_pipeline

NAME = "right students of odd shapes"
TARGETS = {"coreml-fp16": 40.0, "onnx-int8": 18.0}  # dB beside stock: half precision; 8 bits of random weights
SIDE = 32  # pixels; diffusers takes multiples of 32
Shape = dict[str, Any]


@dataclass
class Row:
    """What one student gave on one target."""

    student: int
    target: str
    shape: Shape
    psnr_db: float | None = None
    departures: list[str] = field(default_factory=list)
    error: str = ""
    kind: str = ""
    seconds: float = 0.0


def draw_shape(seed: int) -> Shape:
    """The configs of one student that stock diffusers can run: {"transformer": ..., "vae": ..., "text": ..., "steps": ...}."""
    dice = random.Random(seed)
    text = _draw_text(dice)
    channels = dice.choice((2, 3, 4, 6, 8))
    levels = dice.choice((2, 3, 3, 4))
    base = channels * dice.choice([factor for factor in (2, 3, 4, 6, 8) if 8 <= channels * factor <= 32])
    sample = SIDE >> (levels - 1)
    return {
        "text": text,
        "transformer": _draw_transformer(dice, text["hidden_size"], channels, sample),
        "vae": _draw_vae(dice, base, levels, channels),
        "steps": dice.choice((1, 1, 2, 4)),
    }


def _draw_text(dice: random.Random) -> Shape:
    keys, groups, size = dice.choice((1, 2, 3)), dice.choice((1, 2, 3)), dice.choice((6, 8, 10, 12, 14, 16, 20, 24))
    return {
        "hidden_size": dice.randrange(32, 81),
        "intermediate_size": dice.randrange(24, 97),
        "num_hidden_layers": dice.choice((1, 2)),
        "num_attention_heads": keys * groups,
        "num_key_value_heads": keys,
        "head_dim": size,
        "query_pre_attn_scalar": dice.choice((size, 10, 16, 24)),
        "sliding_window": dice.choice((32, 64, 100, 4096)),
        "initializer_range": dice.choice((0.02, 0.05, 0.1, 0.15, 0.3)),
    }


def _draw_transformer(dice: random.Random, captions: int, channels: int, sample: int) -> Shape:
    heads, size = dice.choice((1, 2, 3, 4, 5)), dice.choice((8, 10, 12, 16, 18, 20))
    width = heads * size
    cross = dice.choice([count for count in range(1, 9) if width % count == 0 and width // count >= 4])
    return {
        "in_channels": channels,
        "out_channels": channels,
        "num_attention_heads": heads,
        "attention_head_dim": size,
        "num_layers": dice.choice((1, 2)),
        "num_cross_attention_heads": cross,
        "cross_attention_head_dim": width // cross,
        "cross_attention_dim": width,
        "caption_channels": captions,
        "mlp_ratio": dice.choice((1.0, 1.5, 2.0, 2.5)),
        "sample_size": sample,
        "qk_norm": dice.choice(("rms_norm_across_heads", "rms_norm_across_heads", None)),
        "guidance_embeds_scale": dice.choice((0.1, 0.3)),
    }


def _draw_vae(dice: random.Random, base: int, levels: int, channels: int) -> Shape:
    widths = tuple(base << level for level in range(levels))
    blocks = ("ResBlock",) * (levels - 1) + ("EfficientViTBlock",)
    scales = ((),) * (levels - 1) + (dice.choice(((), (3,), (5,))),)
    return {
        "latent_channels": channels,
        "attention_head_dim": dice.choice([size for size in (4, 6, 8, 12, 16, 24, 32) if widths[-1] % size == 0]),
        "encoder_block_types": blocks,
        "decoder_block_types": blocks,
        "encoder_block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "encoder_layers_per_block": (0,) + (1,) * (levels - 1),
        "decoder_layers_per_block": (1,) * levels,
        "encoder_qkv_multiscales": scales,
        "decoder_qkv_multiscales": scales,
        "scaling_factor": dice.choice((0.41407, 0.7, 1.3)),
    }


def try_students(count: int, seed: int) -> Iterator[Row]:
    """Each student through each target."""
    for student in range(seed, seed + count):
        shape = draw_shape(student)
        with tempfile.TemporaryDirectory() as folder:
            pipeline = make_pipeline(student, shape["transformer"], shape["vae"], shape["text"])
            pipeline.save_pretrained(Path(folder) / "student")
            generator = np.random.default_rng(student)
            latents = (shape["steps"], 1, shape["vae"]["latent_channels"], *(shape["transformer"]["sample_size"],) * 2)
            noise = generator.standard_normal(latents, np.float32)
            stock = draw_stock(pipeline, PROMPTS[0], noise, SIDE)[1]
            for target in TARGETS:
                yield _try_target(Row(student, target, shape), Path(folder), noise, stock)


def _try_target(row: Row, folder: Path, noise: Array, stock: Array) -> Row:
    start = time.monotonic()
    try:
        named: Any = {"steps": row.shape["steps"], "prompts": PROMPTS[:1], "validate": False}
        bundle = convert(str(folder / "student"), row.target, folder / row.target, **named)
        drawn = open_bundle(bundle.folder)([PROMPTS[0]], noise=noise if len(noise) > 1 else noise[0])
        row.psnr_db = round(float(psnr_images(drawn, stock)[0]), 1)
        if row.target.startswith("coreml"):
            row.departures = _search(bundle, folder / "student", noise)
        shutil.rmtree(bundle.folder)
    except SprintExportError as error:
        row.error, row.kind = str(error), CLEAN
    except Exception as error:  # whatever it is, it is the outcome that is counted
        row.error, row.kind = describe_error(error), TRACEBACK
    row.seconds = round(time.monotonic() - start, 1)
    return row


def _search(bundle: Bundle, folder: Path, noise: Array) -> list[str]:
    """What the departures check says of each component, on what PyTorch feeds it."""
    student = load_student(folder)
    rounded = draw_rounded(bundle, student, Draws(PROMPTS[:1], noise, bundle.plan.guidance), quiet)
    rows = load_target(bundle.target).compare_rows(bundle, pair_components(bundle, student, rounded))
    return [f"{row.component}: {row.note}" for row in rows if row.value]


def judge(row: Row) -> str:
    """The outcome by its name; a departure of a right student is a wrong word, as bad as a wrong picture."""
    if row.kind:
        return row.kind
    if row.departures or row.psnr_db is None:
        return WRONG
    return RIGHT if row.psnr_db >= TARGETS[row.target] else GATE


def run(count: int, seed: int, tally: Tally) -> None:
    """The campaign as benchmarks/attack.py runs it."""
    for row in try_students(count, seed):
        tally.add(row.target, judge(row), f"student {row.student}: {row.psnr_db} dB {row.departures} {row.error}")


def summarize(rows: list[Row]) -> dict[str, Any]:
    """False alarms, refusals and PSNR by target, the worst student named."""
    found: dict[str, Any] = {}
    for target in TARGETS:
        mine = [row for row in rows if row.target == target]
        drawn = sorted((row for row in mine if row.psnr_db is not None), key=lambda row: row.psnr_db or 0.0)
        found[target] = {
            "students": len(mine),
            "false alarms": sum(bool(row.departures) for row in mine),
            "errors": [f"student {row.student}: {row.error}" for row in mine if row.error],
            "psnr_db": {"worst": drawn[0].psnr_db, "median": drawn[len(drawn) // 2].psnr_db} if drawn else {},
            "worst": dataclasses.asdict(drawn[0]) if drawn else None,
        }
    return found


def main() -> None:
    """Run it large; the file is written after every student, so that an interrupted run says what it saw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/odd_students.json"))
    options = parser.parse_args()
    command = f"python -m tests.attack.odd_students --count {options.count} --seed {options.seed}"
    rows: list[Row] = []
    for row in try_students(options.count, options.seed):
        rows.append(row)
        print(row.student, row.target, row.psnr_db, *row.departures, row.error, f"{row.seconds} s", flush=True)
        short = [[row.student, row.target, row.psnr_db, len(row.departures)] for row in rows]
        held = {"command": command, "summary": summarize(rows), "rows": short}
        options.out.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
