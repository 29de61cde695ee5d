"""4-bit text encoders: weights rounded plainly or fitted by GPTQ, what the pictures of sprint-tiny say and what Gemma-2-2b takes.

    python benchmarks/fit_weights.py --layers 4        # of Gemma-2-2b, random weights; its 26 take proportionally longer

Pictures: sprint-tiny's text encoder alone in 4 bits, the other networks float, held-out captions, in torch with the rounding that
the graphs repeat. Gemma: seconds and peak memory of fitting, imports included, in a process of its own; random weights have no
structure to fit to, so no quality is told of them. Groups are those of the targets: 32 on onnx, 128 on trt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sprint_export.conversion import keep_components
from sprint_export.noise import make_noise
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.psnr import psnr_images
from sprint_export.quantize import quantize_student
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.registry import load_target
from sprint_export.session import open_student
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sprint_tiny.adherence import detect_scene
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

RULES = (Rule("text_encoder.*.embed_tokens", "w8a16"), Rule("text_encoder.*", "int4"), Rule("*", "float"))
PROMPTS = {"sprint-tiny": 32, "gemma": 8}


def quantize(student: Student, target: str, prompts: int, gptq: bool) -> Student:
    """The text encoder's weights in 4 bits."""
    recipe = Recipe("4 bits", RULES, student.calibration_prompts[:prompts], 1, gptq=gptq)
    return quantize_student(student, "int8", load_target(target), recipe)


def draw(student: Student, fake: bool, count: int) -> np.ndarray:
    """Held-out captions in torch, uint8 [B, H, W, 3]."""
    sessions = {role: TorchSession(student.components[role], fake and role == "text_encoder") for role in ROLES}
    pipe = open_student(student, sessions)
    return pipe(student.validation_prompts[:count], noise=make_noise(0, 1, count, student.latent_shape))


def compare_pictures(count: int) -> dict[str, Any]:
    """PSNR and flips by target and rounding."""
    student = specialize_student(load_student("sprint-tiny"))
    exact = draw(student, False, count)
    found = {}
    for target in ("onnx", "trt"):
        for gptq in (False, True):
            pictures = draw(quantize(student, target, PROMPTS["sprint-tiny"], gptq), True, count)
            psnr = psnr_images(pictures, exact)
            flips = sum(detect_scene(a) != detect_scene(b) for a, b in zip(pictures, exact, strict=True))
            row = {"psnr_db": round(float(psnr.mean()), 2), "worst_db": round(float(psnr.min()), 2), "flips": flips}
            found[f"{target}, {'gptq' if gptq else 'plain'}"] = row
            print(row, flush=True)
    return found


def fit_gemma(layers: int) -> None:
    """The process whose time and memory are told."""
    from sprint_export.students.sana_sprint.presets import LONG_PREFIX, build_preset
    from sprint_export.students.sana_sprint.published import GEMMA_2_2B, PRESETS

    preset = dataclasses.replace(PRESETS["sana-sprint-0.6b"], text_encoder=GEMMA_2_2B | {"num_hidden_layers": layers})
    student = specialize_student(build_preset(preset, f"gemma-{layers}", 0, LONG_PREFIX))
    quantize(keep_components(student, ["text_encoder"]), "onnx", PROMPTS["gemma"], True)


def measure_gemma(layers: int) -> dict[str, float]:
    """Seconds and peak gigabytes."""
    script = (
        f"import resource, fit_weights; fit_weights.fit_gemma({layers});print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{layers} layers failed:\n{done.stderr[-3000:]}")
    peak = float(done.stdout.split()[-1]) * 1024 / 1e9
    return {"layers": layers, "seconds": round(time.monotonic() - start, 1), "peak_gb": round(peak, 2)}


def main() -> None:
    """Measure both and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    found: dict[str, Any] = {"command": " ".join(["python benchmarks/fit_weights.py", *sys.argv[1:]])}
    found |= {"machine": describe_machine(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory(prefix="sprint-export-") as cache:
        os.environ["SPRINT_EXPORT_CACHE"] = cache
        found["sprint-tiny, text encoder alone"] = compare_pictures(options.count)
        found["gemma-2-2b"] = measure_gemma(options.layers)
    (options.out / "fit_weights.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
