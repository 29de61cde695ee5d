"""The teacher of the other students: the embedded student, trained back to a flow-matching network of many steps.

The teacher that sprint-tiny was distilled from is not kept in the repository. Its student has its architecture and was taught
x_s - s v = x0 at every flow time, so it lacks little: flow matching on pictures (teacher.py's loss) makes it a teacher again
within minutes. A student of such a teacher says nothing about how well a method does from a teacher alone.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import LATENT_CHANNELS, LATENT_SIZE, Log, draw_examples
from diffusers import SanaTransformer2DModel
from distill import held_out_set
from resume import Budget, train
from teacher import Frozen, describe, score, velocity

LATENT = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)


def cache_examples(work: Path, frozen: Frozen, count: int, log: Log) -> dict[str, torch.Tensor]:
    """`count` training pictures as latents, with texts and masks; cached on disk."""
    path = work / "examples.pt"
    if not path.exists():
        rng, made = np.random.default_rng(31), []
        for _ in range(count // 1024):
            _, captions, pictures = draw_examples(1024, rng)
            text, mask = frozen.read(captions)
            made.append({"x0": frozen.encode(pictures).bfloat16(), "text": text.bfloat16(), "mask": mask})
        torch.save({key: torch.cat([part[key] for part in made]) for key in made[0]}, path)
        log(f"examples: {count} latents and texts cached")
    stored: dict[str, torch.Tensor] = torch.load(path, map_location=frozen.device, weights_only=True)
    return stored


def draw_times(count: int, device: str) -> torch.Tensor:
    """Flow times [N]: logit-normal around 0.6, a tenth of them 1."""
    s = torch.sigmoid(torch.randn(count, device=device) + 0.4)
    return torch.where(torch.rand_like(s) < 0.1, torch.ones_like(s), s)


def recover_teacher(work: Path, start: Path, budget: Budget, batch: int, log: Log, device: str) -> None:
    """Train `start`'s transformer as a teacher; save to `work`/teacher."""
    torch.manual_seed(31)
    frozen = Frozen.load(start, device)
    data = cache_examples(work, frozen, 16384, log)
    captions, noise = held_out_set(64, device)

    def make_loss(model: SanaTransformer2DModel, average: SanaTransformer2DModel, share: float) -> torch.Tensor:
        pick = torch.randint(len(data["x0"]), (batch,), device=device)
        x0, eps, s = data["x0"][pick].float(), torch.randn(batch, *LATENT, device=device), draw_times(batch, device)
        x = torch.lerp(x0, eps, s[:, None, None, None])
        v = velocity(model, x, s, 0.1 + 0.4 * torch.rand_like(s), data["text"][pick], data["mask"][pick])
        return (v - (eps - x0)).square().mean()

    def check(model: torch.nn.Module) -> str:
        return f"8 steps: {describe(score(model, frozen, captions, noise, 8))}"

    model = SanaTransformer2DModel.from_pretrained(start / "transformer").to(device).train()
    train(work / "teacher.pt", model, budget, make_loss, log, check).save_pretrained(work / "teacher")
