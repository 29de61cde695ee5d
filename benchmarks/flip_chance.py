"""How many of sprint-tiny's pictures show something else after an error of a given size, whatever made it.

    python benchmarks/flip_chance.py --out benchmarks/results

Normal noise is added to the denoised latents, in several sizes and several draws of each, and decoded in float32; PSNR and flips
are counted as quality_sprint_tiny.py counts them, over 256 held-out captions from four noises each. What flips at any size lies
at the detector's edge, and says nothing of a recipe.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from sprint_export.noise import make_noise
from sprint_export.nouns.student import Student
from sprint_export.prompt_reader import PromptReader
from sprint_export.psnr import psnr_images
from sprint_export.quantize.torch_session import TorchSession
from sprint_export.session import to_uint8
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sprint_tiny.adherence import detect_scene
from sprint_export.validate.machine import describe_machine

ROLES = FAMILY.chain.list_missing(())  # without which there is no picture

BATCH, NOISES, DRAWS = 32, 4, 4
SIZES = (0.004, 0.008, 0.016, 0.032, 0.048, 0.064)  # of the latents' standard deviation


def denoise(student: Student, sessions: dict[str, TorchSession], captions: list[str]) -> np.ndarray:
    """Latents float32 [NOISES captions, C, h, w]."""
    ids, mask = PromptReader(student.prompt, student.tokenizer / "tokenizer.json").read(captions)
    parts = [slice(i, i + BATCH) for i in range(0, len(captions), BATCH)]
    embeds = np.concatenate([sessions["text_encoder"].run({"input_ids": ids[part]})["prompt_embeds"] for part in parts])
    found = []
    for seed in range(NOISES):
        noise = make_noise(seed, 1, len(captions), student.latent_shape)[0]
        for part in parts:
            feeds = {"latents": noise[part], "prompt_embeds": embeds[part], "prompt_mask": mask[part]}
            found.append(sessions["transformer"].run(feeds)["denoised"])
    return np.concatenate(found)


def decode(session: TorchSession, latents: np.ndarray) -> np.ndarray:
    """Pictures uint8 [B, H, W, 3]."""
    parts = [latents[i : i + BATCH].astype(np.float32) for i in range(0, len(latents), BATCH)]
    return np.concatenate([to_uint8(session.run({"latents": part})["image"]) for part in parts])


def main() -> None:
    """Measure all sizes and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    student = specialize_student(load_student("sprint-tiny"))
    sessions = {role: TorchSession(student.components[role]) for role in ROLES}
    latents = denoise(student, sessions, list(student.validation_prompts[: options.count]))
    exact = decode(sessions["vae_decoder"], latents)
    scenes, random = [detect_scene(picture) for picture in exact], np.random.default_rng(0)
    rows, places = [], Counter[str]()
    for size in SIZES:
        flips, psnr = [], []
        for _ in range(DRAWS):
            moved = latents + size * latents.std() * random.standard_normal(latents.shape)
            pictures = decode(sessions["vae_decoder"], moved)
            psnr.append(float(psnr_images(pictures, exact).mean()))
            changed = [i for i, picture in enumerate(pictures) if detect_scene(picture) != scenes[i]]
            places.update(f"noise {i // options.count}, caption {i % options.count}" for i in changed)
            flips.append(len(changed))
        rows.append({"size": size, "psnr_db": round(float(np.mean(psnr)), 1), "flips": flips})
        print(rows[-1], flush=True)
    found: dict[str, Any] = {"command": f"python benchmarks/flip_chance.py --count {options.count}"}
    found |= {"machine": describe_machine(), "pictures": len(exact), "rows": rows, "most often": dict(places.most_common(8))}
    (options.out / "flip_chance.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
