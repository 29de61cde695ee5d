"""Image-to-image beside the stock SanaSprintImg2ImgPipeline, at equal noise: the specialized student in float, and bundles.

    python benchmarks/image_to_image.py --out benchmarks/results/image_to_image.json

The pictures to start from are sprint-tiny's own of other prompts. `psnr_db` is to the stock pipeline's in float32, mean over
PROMPTS; `kept_db` is the stock picture to the one it started from, which says how much of it a strength leaves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import SanaSprintImg2ImgPipeline
from diffusers.pipelines.sana import pipeline_sana_sprint_img2img
from diffusers.schedulers import scheduling_scm
from PIL import Image

from sprint_export.conversion import convert
from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.psnr import psnr_images
from sprint_export.quantize.torch_session import open_torch
from sprint_export.runtimes import open_bundle
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.family import load_family
from sprint_export.students.sana_sprint.reference import make_reference
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP

STUDENT, STEPS, STRENGTHS, PROMPTS = "sprint-tiny", (1, 2, 4), (0.3, 0.6, 1.0), 8
TARGETS = ("onnx-int8", "trt-fp8")


def draw_stock(pipeline: SanaSprintImg2ImgPipeline, prompt: str, picture: Any, noise: Any, asked: dict[str, Any]) -> Any:
    """The stock picture uint8 [1, H, W, 3] where every call for noise gets the next of ours."""
    given = iter([*torch.from_numpy(noise), torch.zeros(noise.shape[1:])])
    with (
        mock.patch.object(scheduling_scm, "randn_tensor", lambda *_, **__: next(given)),
        mock.patch.object(pipeline_sana_sprint_img2img, "randn_tensor", lambda *_, **__: next(given)),
    ):
        drawn = pipeline(prompt, image=Image.fromarray(picture), use_resolution_binning=False, output_type="np", **asked).images
    return np.rint(drawn * 255).astype(np.uint8)


def compare(student: Student, pipes: dict[str, Any], steps: int, strength: float) -> dict[str, Any]:
    """PSNR of each pipeline's pictures to the stock ones."""
    stock = SanaSprintImg2ImgPipeline(**make_reference(student).components)
    stock.set_progress_bar_config(disable=True)
    prompts, others = student.validation_prompts[:PROMPTS], student.validation_prompts[PROMPTS : 2 * PROMPTS]
    starts = pipes["torch, float32"](others, seed=100)
    rows = specialize_student(student, steps).plan.rows(steps, strength)  # type: ignore[union-attr]  # specialized
    noise = make_noise(0, len(rows), PROMPTS, student.latent_shape)
    side = starts.shape[1]
    asked: dict[str, Any] = {"strength": strength, "num_inference_steps": steps, "height": side, "width": side}
    asked["intermediate_timesteps"] = INTERMEDIATE_TIMESTEP if steps == 2 else None
    wanted = np.concatenate([draw_stock(stock, prompts[i], starts[i], noise[:, i : i + 1], asked) for i in range(PROMPTS)])
    found: dict[str, Any] = {"steps": steps, "strength": strength, "steps run": len(rows)}
    found["kept_db"] = round(float(psnr_images(wanted, starts).mean()), 1)
    for name, pipe in pipes.items():
        drawn = pipe(prompts, noise=noise, image=list(starts), strength=strength)
        found[name] = {"psnr_db": round(float(psnr_images(drawn, wanted).mean()), 1)}
        found[name]["levels_off"] = int(np.abs(drawn.astype(int) - wanted).max())
    return found


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    student = load_student(STUDENT)
    encoding, found = load_family(student.family).add_encoder(student), []
    with tempfile.TemporaryDirectory() as folder:
        for target in TARGETS:
            convert(student, target, Path(folder, target), steps=STEPS, image_to_image=True, validate=False)
        for steps in STEPS:
            pipes = {"torch, float32": open_torch(specialize_student(encoding, steps))}
            pipes |= {target: open_bundle(Path(folder, target), steps=steps) for target in TARGETS}
            found += [compare(student, pipes, steps, strength) for strength in STRENGTHS]
            print(json.dumps(found[-3:], indent=1))
    out.write_text(json.dumps({"student": STUDENT, "prompts": PROMPTS, "rows": found}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
