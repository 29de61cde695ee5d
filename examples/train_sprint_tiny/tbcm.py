"""A TBCM student from the teacher: consistency along the teacher's own way from noise to picture, and no pictures at all.

Trajectory-sampled pairs (arXiv 2511.20410): every row of the batch walks backward along its own trajectory of the teacher, from
s = 1 over 16 points shifted by 2.5, and each point it passes is a sample: x_s, and dx/ds = u, the teacher's velocity that takes
the row to its next point anyway. A row that arrives starts again with a new caption and new noise.
The target is the continuous one, as in distill.py: f(x_s, s) = x_s - s v is constant along the trajectory where
    g = v - u + r s dv/ds = 0,    dv/ds = J_x u + dv/ds|_x  (one forward-mode derivative),
r rises from 0 to 1, g is normalised by sample, v is moved along -g. The paper lets r fall to 0.75 late in training and drops
black pictures; both are left out here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Log, draw_scenes
from diffusers import SanaTransformer2DModel
from distill import held_out_set
from recover import LATENT
from resume import Budget, train
from teacher import Frozen, describe, sample_euler, score, velocity
from torch.nn.attention import SDPBackend, sdpa_kernel

from sprint_export.students.sprint_tiny.world import write_caption

POINTS = 16  # of a trajectory
SHIFT = 2.5
GUIDANCE = 0.45


def shift(u: torch.Tensor) -> torch.Tensor:
    """Flow times of evenly spaced u in [0, 1]: more of them near noise."""
    return SHIFT * u / (1 + (SHIFT - 1) * u)


class Trajectories:
    """A batch of rows on their ways; `walk` gives where they are and takes them one point on."""

    def __init__(self, teacher: SanaTransformer2DModel, text: torch.Tensor, mask: torch.Tensor, batch: int) -> None:
        self.teacher, self.text, self.mask = teacher, text, mask
        device = text.device
        self.x = torch.randn(batch, *LATENT, device=device)
        self.caption = torch.randint(len(text), (batch,), device=device)
        self.left = torch.ones(batch, device=device)  # of the way, u
        self.first = torch.arange(batch, device=device) % POINTS  # steps to wait, so that rows are spread over the way

    @torch.no_grad()
    def walk(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """x_s, s [N], u = dx/ds, texts and masks of the points the rows are at."""
        arrived = (self.left < 0.5 / POINTS) | (self.first > 0)
        fresh = torch.randn_like(self.x)
        self.x = torch.where(arrived[:, None, None, None], fresh, self.x)
        self.caption = torch.where(arrived, torch.randint_like(self.caption, len(self.text)), self.caption)
        self.left = torch.where(arrived, torch.ones_like(self.left), self.left)
        self.first = (self.first - 1).clamp_min(0)
        s, next_s = shift(self.left), shift(self.left - 1 / POINTS)
        text, mask, x = self.text[self.caption], self.mask[self.caption], self.x
        u = velocity(self.teacher, x, s, torch.full_like(s, GUIDANCE), text, mask)
        self.x, self.left = x + (next_s - s)[:, None, None, None] * u, self.left - 1 / POINTS
        return x, s, u, text, mask


def consistency_loss(model: torch.nn.Module, trajectories: Trajectories, share: float) -> torch.Tensor:
    """The continuous consistency loss on the points where the rows are."""
    x, s, u, text, mask = trajectories.walk()
    guidance = torch.full_like(s, GUIDANCE)

    def network(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return velocity(model, x, s, guidance, text, mask)

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward-mode derivative
        value_and_derivative: Any = torch.func.jvp(network, (x, s), (u, torch.ones_like(s)))
        v, slope = value_and_derivative
    g = v - u + min(1.0, 2 * share) * s[:, None, None, None] * slope
    g = g / (g.square().mean((1, 2, 3), keepdim=True).sqrt() + 0.1)
    loss: torch.Tensor = (network(x, s) - (v - g)).square().mean()
    return loss


def make_check(teacher: SanaTransformer2DModel, frozen: Frozen, device: str) -> Callable[[torch.nn.Module], str]:
    """Adherence in one step, and how far that step ends from the teacher's 16, on 128 held-out captions and the same noise."""
    captions, noise = held_out_set(128, device)
    text, mask = frozen.read(captions)
    end = sample_euler(teacher, noise, text, mask, POINTS)

    def check(model: torch.nn.Module) -> str:
        error = (sample_euler(model, noise, text, mask, 1) - end).square().mean().item()
        return f"1 step: {error:.4f} from the teacher's end; {describe(score(model, frozen, captions, noise, 1))}"

    return check


def train_tbcm(work: Path, start: Path, budget: Budget, batch: int, log: Log, device: str, captions: int = 16384) -> None:
    """Train the teacher in `work` as a TBCM student; save to `work`/tbcm."""
    torch.manual_seed(61)
    frozen = Frozen.load(start, device)
    rng = np.random.default_rng(61)
    text, mask = frozen.read([write_caption(scene, rng) for scene in draw_scenes(captions, rng)])
    teacher = SanaTransformer2DModel.from_pretrained(work / "teacher").to(device).eval().requires_grad_(False)
    model = SanaTransformer2DModel.from_pretrained(work / "teacher").to(device).train()
    trajectories, check = Trajectories(teacher, text, mask, batch), make_check(teacher, frozen, device)
    log(f"tbcm: before, {check(model)}")

    def make_loss(model: SanaTransformer2DModel, average: SanaTransformer2DModel, share: float) -> torch.Tensor:
        return consistency_loss(model, trajectories, share)

    train(work / "tbcm.pt", model, budget, make_loss, log, check).save_pretrained(work / "tbcm")
