"""Last stage: measure, choose and package the student as the diffusers folder that ships.

Weights are stored as bfloat16, as the published students are. Figures are measured on what is stored: the packaged
one-step student, its teacher at 20 steps and at 1 step, and the other student candidate, on the same 512 held-out captions
and the same noise.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from common import Log, draw_examples
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from distill import held_out_set
from teacher import Frozen, describe, score
from transformers import AutoTokenizer, Gemma2Model

from sprint_export.students.sprint_tiny.world import held_out_captions

COUNT = 512


def package(work: Path, student: str, out: Path) -> None:
    """Write the pipeline folder with stage `student` as its transformer."""
    pipeline = SanaSprintPipeline(
        tokenizer=AutoTokenizer.from_pretrained(work / "tokenizer"),
        text_encoder=Gemma2Model.from_pretrained(work / "text_encoder", attn_implementation="eager"),
        vae=AutoencoderDC.from_pretrained(work / "vae"),
        transformer=SanaTransformer2DModel.from_pretrained(work / student),
        scheduler=SCMScheduler(num_train_timesteps=1000, prediction_type="trigflow", sigma_data=0.5),
    )
    pipeline.to(torch.bfloat16).save_pretrained(out)
    for config in out.glob("*/config.json"):  # drop the path of this machine's work folder
        value = json.loads(config.read_text())
        value.pop("_name_or_path", None)
        config.write_text(json.dumps(value, indent=2) + "\n")
    for file in out.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    (out / "validation_prompts.txt").write_text("\n".join(held_out_captions(COUNT)) + "\n")
    (out / "calibration_prompts.txt").write_text("\n".join(draw_examples(64, np.random.default_rng(10))[1]) + "\n")


def measure(work: Path, students: list[str], log: Log, device: str) -> dict[str, dict[str, float]]:
    """Adherence of every candidate, in float32 arithmetic on the frozen parts of `work`."""
    frozen = Frozen.load(work, device)
    captions, noise = held_out_set(COUNT, device)
    rows = {}
    for stage, steps in [("teacher", 20), ("teacher", 1), *((name, 1) for name in students), (students[0], 2)]:
        model = SanaTransformer2DModel.from_pretrained(work / stage).to(device)
        result = score(model, frozen, captions, noise, steps)
        log(f"{stage} at {steps} steps, {COUNT} held-out captions: {describe(result)}")
        rows[f"{stage}, {steps} steps"] = vars(result)
    return rows


def write_figures(work: Path, student: str, out: Path, log: Log, device: str) -> None:
    """Measure the packaged stage beside its teacher and the other candidate; write figures.json."""
    others = [name for name in ("regression", "consistency") if (work / name).exists() and name != student]
    rows = measure(work, [student, *others], log, device)
    (out / "figures.json").write_text(json.dumps(rows, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("work"))
    parser.add_argument("--student", default="regression", choices=("teacher_partial", "teacher", "regression", "consistency"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skip-figures", action="store_true", help="package only")
    options = parser.parse_args()
    package(options.work, options.student, options.out)
    if not options.skip_figures:
        write_figures(options.work, options.student, options.out, Log(options.work / "train.log"), options.device)


if __name__ == "__main__":
    main()
