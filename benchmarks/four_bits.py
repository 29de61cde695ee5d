"""What 4-bit weights cost the pictures of the trained small students, one network rounded, the others float: plain and by GPTQ.

    python benchmarks/four_bits.py --count 128 --out benchmarks/results          # students and cases in turn
    python benchmarks/four_bits.py --students sprint-tiny --cases "transformer but its doors"

PSNR over held-out captions beside the same student in float, in torch with the rounding that the graphs repeat. The text encoder
is one for all of them, so it is measured with the first student alone. 32 captions calibrate. This is the table of
docs/decisions/0037-four-bits.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.noise import make_noise
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.psnr import psnr_images
from sprint_export.quantize import quantize_student
from sprint_export.quantize.torch_session import open_torch
from sprint_export.registry import load_target
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.validate.machine import describe_machine

STUDENTS = ("sprint-tiny", "tbcm-tiny", "twinflow-tiny")
PROMPTS = 32
EMBEDDING, DOORS = "text_encoder.model.embed_tokens", ("patch_embed.*", "caption_projection.*", "proj_out")


@dataclass(frozen=True)
class Case:
    """Patterns of layers and what each is rounded to, all others float; values of a group; whether by GPTQ too."""

    rules: tuple[tuple[str, str], ...]
    group: int = 64
    is_fitted: bool = True


def leave_doors(kind: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    """The transformer in 4 bits, but for its doors."""
    return (*more, *((f"transformer.{door}", kind) for door in DOORS), ("transformer.*", "int4"))


LINEARS = ((EMBEDDING, "float"), ("text_encoder.*", "int4"))
CASES = {
    "text encoder's Linears, groups of 32": Case(LINEARS, 32),
    "text encoder's Linears, groups of 64": Case(LINEARS),
    "text encoder's Linears, groups of 128": Case(LINEARS, 128),
    "embedding alone": Case(((EMBEDDING, "int4"),), is_fitted=False),
    "embedding alone, 8 bits": Case(((EMBEDDING, "w8a16"),), is_fitted=False),
    "embedding and Linears": Case(((EMBEDDING, "int4"), ("text_encoder.*", "int4"))),
    "transformer but its doors": Case(leave_doors("float")),
    "transformer, doors in 8 bits": Case(leave_doors("w8a16")),
    "transformer but its doors, conv_point float": Case(leave_doors("float", ("transformer.*.ff.conv_point", "float"))),
    "transformer, w8a16": Case((("transformer.*", "w8a16"),), is_fitted=False),
}


def regroup(target: Target, group: int) -> Target:
    """The target whose 4-bit scales are over so many input values."""
    return dataclasses.replace(target, offers={**target.offers, "int4": dataclasses.replace(target.offers["int4"], group=group)})


def draw(student: Student, count: int) -> np.ndarray:
    """Held-out captions in torch, rounded where the student is quantized, uint8 [B, H, W, 3]."""
    return open_torch(student, fake=True)(student.validation_prompts[:count], noise=make_noise(0, 1, count, student.latent_shape))


def measure(student: Student, case: Case, exact: np.ndarray, has_gptq: bool) -> dict[str, float]:
    """Mean and worst PSNR of one rounding."""
    start = time.process_time()
    rules = (*(Rule(pattern, kind) for pattern, kind in case.rules), Rule("*", "float"))
    recipe = Recipe("4 bits", rules, student.calibration_prompts[:PROMPTS], 1, gptq=has_gptq)
    quantized = quantize_student(student, "int8", regroup(load_target("onnx"), case.group), recipe)
    psnr = psnr_images(draw(quantized, len(exact)), exact)
    seconds = round(time.process_time() - start, 1)
    return {"psnr_db": round(float(psnr.mean()), 2), "worst_db": round(float(psnr.min()), 2), "cpu_seconds": seconds}


def main() -> None:
    """Measure and write the table after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--students", nargs="*", default=STUDENTS, choices=STUDENTS)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    found: dict[str, Any] = {"command": " ".join(["python benchmarks/four_bits.py", *sys.argv[1:]])}
    found |= {"machine": describe_machine(), "pictures": options.count}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as cache:
        os.environ["SPRINT_EXPORT_CACHE"] = cache
        for name in options.students:
            student = specialize_student(load_student(name))
            exact = draw(student, options.count)
            cases = [case for case in options.cases if name == options.students[0] or case.startswith("transformer")]
            for case in cases:
                for has_gptq in (False, True)[: 1 + CASES[case].is_fitted]:
                    row = measure(student, CASES[case], exact, has_gptq)
                    found.setdefault(name, {}).setdefault(case, {})["GPTQ" if has_gptq else "plain"] = row
                    print(name, case, "GPTQ" if has_gptq else "plain", row, flush=True)
                    (options.out / "four_bits.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
