"""Stage 4: one step from many, on the teacher's own trajectories (no pictures needed, as in TBCM).

Trajectories: Euler from s = 1 to 0, every point kept. A consistency function maps any point of a trajectory to its end:
f(x_s, s) = x_s - s v(x_s, s).

Warm start: regression of f on the trajectory's end, mostly from s = 1.
sCM in flow form: along the trajectory dx/ds = u is known (the teacher's velocity, by finite difference of stored points),
and f constant means v - u + s dv/ds = 0 with dv/ds = J_x u + dv/ds|_x (one forward-mode JVP). The tangent
g = v - u + r s dv/ds, r warmed up from 0 to 1, is normalised per sample and v is moved along -g.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import LATENT_CHANNELS, LATENT_SIZE, Average, Log, draw_examples, steps_within, take_step
from diffusers import SanaTransformer2DModel
from teacher import Frozen, describe, sample_euler, score, velocity
from torch.nn.attention import SDPBackend, sdpa_kernel

from sprint_export.students.sprint_tiny.world import held_out_captions

STEPS = 10  # Euler steps of a stored trajectory
LATENT = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)


def make_trajectories(folder: Path, count: int, log: Log, device: str) -> dict[str, torch.Tensor]:
    """`count` trajectories of the teacher: points bfloat16 [N, 11, 16, 8, 8] with their texts and masks; cached on disk."""
    path = folder / "trajectories.pt"
    if path.exists():
        stored: dict[str, torch.Tensor] = torch.load(path, map_location=device, weights_only=True)
        return stored
    frozen, teacher = Frozen.load(folder, device), SanaTransformer2DModel.from_pretrained(folder / "teacher").to(device).eval()
    rng, made = np.random.default_rng(6), []
    torch.manual_seed(6)
    for _ in range(count // 512):
        _, captions, _ = draw_examples(512, rng)
        text, mask = frozen.read(captions)
        points = sample_euler(teacher, torch.randn(512, *LATENT, device=device), text, mask, STEPS, keep=True)
        made.append({"points": points.transpose(0, 1).bfloat16(), "text": text.bfloat16(), "mask": mask})
    stored = {key: torch.cat([part[key] for part in made]) for key in made[0]}
    torch.save(stored, path)
    log(f"trajectories: {len(stored['points'])} of {STEPS} Euler steps")
    return stored


def held_out_set(count: int, device: str) -> tuple[list[str], torch.Tensor]:
    """Validation captions and their noise; the same for every model that is compared."""
    noise = torch.randn(count, *LATENT, generator=torch.Generator().manual_seed(0))
    return held_out_captions(count), noise.to(device)


def regress(folder: Path, seconds: float, batch: int, log: Log, device: str) -> None:
    """Warm start: half the samples from s = 1, the rest from a random later point; save to `folder`/regression."""
    torch.manual_seed(7)
    data, frozen = make_trajectories(folder, 16384, log, device), Frozen.load(folder, device)
    model = SanaTransformer2DModel.from_pretrained(folder / "teacher").to(device).train()
    average = Average(model, 0.998)
    captions, noise = held_out_set(128, device)
    log(f"teacher at one step, before: {describe(score(model, frozen, captions, noise, 1))}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.0)
    losses: list[torch.Tensor] = []
    for step, share in steps_within(seconds, 6e-4, 50, optimizer):
        pick = torch.randint(len(data["points"]), (batch,), device=device)
        index = torch.randint(0, STEPS, (batch,), device=device) * (torch.rand(batch, device=device) < 0.4)
        s = 1 - index / STEPS
        x, x0 = data["points"][pick, index].float(), data["points"][pick, -1].float()
        v = velocity(model, x, s, 0.1 + 0.4 * torch.rand_like(s), data["text"][pick], data["mask"][pick])
        loss = (v * s[:, None, None, None] - (x - x0)).square().mean()
        take_step(model, optimizer, average, loss, step)
        losses.append(loss.detach())
        if step % 100 == 0:
            log(f"regression step {step} ({share:.0%}): loss {torch.stack(losses[-100:]).mean().item():.4f}")
        if step % 500 == 499:
            log(f"regression 1 step: {describe(score(average.module, frozen, captions, noise, 1))}")
            average.module.save_pretrained(folder / "regression_partial")
    average.module.save_pretrained(folder / "regression")
    log(f"regression done after {step + 1} steps; 1 step: {describe(score(average.module, frozen, captions, noise, 1))}")


def consistency(folder: Path, seconds: float, batch: int, log: Log, device: str, rate: float = 1e-4) -> None:
    """sCM from the regression student; save to `folder`/consistency."""
    torch.manual_seed(8)
    data, frozen = make_trajectories(folder, 16384, log, device), Frozen.load(folder, device)
    model = SanaTransformer2DModel.from_pretrained(folder / "regression").to(device).train()
    average = Average(model, 0.995)
    captions, noise = held_out_set(128, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    for step, share in steps_within(seconds, rate, 50, optimizer):
        pick = torch.randint(len(data["points"]), (batch,), device=device)
        index = torch.randint(0, STEPS, (batch,), device=device) * (torch.rand(batch, device=device) < 0.7)
        start, end = data["points"][pick, index].float(), data["points"][pick, index + 1].float()
        u = (start - end) * STEPS  # dx/ds along this Euler step, exact anywhere inside it
        within = torch.rand(batch, device=device) * (index > 0)
        s = 1 - (index + within) / STEPS
        x = torch.lerp(start, end, within[:, None, None, None])
        guidance = 0.1 + 0.4 * torch.rand_like(s)
        wide = s[:, None, None, None]

        def network(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            return velocity(model, x, s, guidance, data["text"][pick], data["mask"][pick])  # noqa: B023 called in this pass

        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
            value_and_derivative: Any = torch.func.jvp(network, (x, s), (u, torch.ones_like(s)))
            v_now, dv = value_and_derivative
        g = v_now - u + min(1.0, 2 * share) * wide * dv
        g = g / (g.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.1)
        loss = (network(x, s) - (v_now - g)).square().mean()
        take_step(model, optimizer, average, loss, step)
        if step % 100 == 99:
            log(f"sCM step {step} ({share:.0%}): 1 step: {describe(score(average.module, frozen, captions, noise, 1))}")
    average.module.save_pretrained(folder / "consistency")
    log(f"sCM done after {step + 1} steps; 1 step: {describe(score(average.module, frozen, captions, noise, 1))}")
