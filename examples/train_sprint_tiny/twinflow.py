"""A TwinFlow student from the teacher: self-adversarial flow, without a discriminator and without a second network.

One network F(x_t, t, t') learns four things at once, a quarter of the batch each (arXiv 2512.05150; names as in the released
src/methodes/twinflow/twinflow.py, a109a71):
    mul   t' a little below t: flow matching, F = eps - x0
    any   t' anywhere below t: consistency of t with t - 0.05 (RCGM)
    e2e   t = 1, t' = 0: the same, and rectification: the one-step picture x0 is noised again to t, and moved by the difference of
          the fake trajectory's velocity F(x_t, -t, -t) and the real one's F(x_t, t, t)
    adv   the fake trajectory: flow matching at negative times on one-step pictures of the network itself
Simpler than published: RCGM of order 1 (published 2) over a step of 0.05 (0.01, whose quotient drowns in bfloat16's rounding),
and no classifier-free guidance in the target, for this world's teacher has none.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from common import Log
from diffusers import SanaTransformer2DModel
from distill import held_out_set
from recover import cache_examples
from resume import Budget, train
from safetensors.torch import load_file, save_file
from teacher import Frozen, describe

from sprint_export.students.sana_sprint.two_times import HELD, SECOND, TwoTimes, rename_second
from sprint_export.students.sprint_tiny.adherence import measure_adherence

STEP = 0.05  # of time, over which RCGM compares
RECTIFY = 0.75  # weight of the rectification (dist_match_cof)
GUIDANCE = 0.3  # the teacher's guidance input, the middle of what it was trained with, held for good


def make_twin(teacher: SanaTransformer2DModel) -> SanaTransformer2DModel:
    """The teacher with TwoTimes: its guidance input becomes part of a bias, E2 starts at N(0, 0.02) as released."""
    model = SanaTransformer2DModel.from_config(dict(teacher.config) | {"guidance_embeds": False})
    model.time_embed = TwoTimes(teacher.config.num_attention_heads * teacher.config.attention_head_dim, 1.0)
    for layer in (module for module in model.time_embed.second.modules() if isinstance(module, torch.nn.Linear)):
        torch.nn.init.normal_(layer.weight, std=0.02)
        torch.nn.init.zeros_(layer.bias)
    old = teacher.time_embed
    with torch.no_grad():
        constant = old.guidance_embedder(old.guidance_condition_proj(torch.tensor([GUIDANCE])))[0]
    state = {
        name.replace("time_embed.timestep_embedder.", "time_embed.emb.timestep_embedder."): value
        for name, value in teacher.state_dict().items()
        if ".guidance_embedder." not in name
    }
    state["time_embed.emb.timestep_embedder.linear_2.bias"] = old.timestep_embedder.linear_2.bias.detach() + constant
    model.load_state_dict(model.state_dict() | state)
    return model


def predict(
    model: torch.nn.Module, x: torch.Tensor, t: torch.Tensor, target: torch.Tensor, text: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """F [N, 16, 8, 8] in float32 at latents x, signed times t [N], towards times `target` [N]."""
    with torch.autocast(x.device.type, torch.bfloat16):
        f: torch.Tensor = model(x, text, timestep=torch.stack((t, target), 1), encoder_attention_mask=mask).sample
    return f.float()


def wide(t: torch.Tensor) -> torch.Tensor:
    """[N] -> [N, 1, 1, 1]."""
    return t[:, None, None, None]


def barron(found: torch.Tensor, wanted: torch.Tensor, c: float = 1e-3) -> torch.Tensor:
    """Mean squared error [N], divided by its own root: a sample far off pulls no harder than one that is near."""
    error = (found - wanted).square().mean((1, 2, 3))
    return error * (error.detach() / c**2 + 1).rsqrt() / c


def self_adversarial_loss(
    model: torch.nn.Module, average: torch.nn.Module, x0: torch.Tensor, text: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """The sum of the four parts on one batch, whose size is a multiple of 4."""
    count, quarter = len(x0), len(x0) // 4
    e2e, mul, real, adv = slice(0, quarter), slice(quarter, 2 * quarter), slice(0, 3 * quarter), slice(3 * quarter, None)
    t = torch.rand(count, device=x0.device).clamp_min(1e-3)
    target = t * torch.rand_like(t)
    t[e2e], target[e2e] = 1.0, 0.0
    target[mul] = t[mul] * (1 - 0.05 * torch.rand_like(t[mul]))
    target[adv] = -t[adv]
    ones, zeros = torch.ones_like(t[adv]), torch.zeros_like(t[adv])
    with torch.no_grad():
        noise = torch.randn_like(x0[adv])
        x0[adv] = noise - predict(model, noise, ones, zeros, text[adv], mask[adv])
        eps = torch.randn_like(x0)
        x, goal = torch.lerp(x0, eps, wide(t)), eps - x0
    signed = torch.cat((t[real], -t[adv]))
    f = predict(model, x, signed, target, text, mask)
    with torch.no_grad():
        goal[real] = _consistent_goal(average, f[real], goal[real], x[real], t[real], target[real], text[real], mask[real])
        weight = torch.tan((1 - (t - target)) * math.pi / 2.5) + 1
        weight[adv] = 1.0
        pull = _rectify(model, x[e2e] - f[e2e], text[e2e], mask[e2e])
    rectified = barron(f[e2e], f[e2e].detach() - pull).mean()
    return (barron(f, goal) * weight).mean() + RECTIFY * rectified


def _consistent_goal(
    average: torch.nn.Module,
    f: torch.Tensor,
    goal: torch.Tensor,
    x: torch.Tensor,
    t: torch.Tensor,
    target: torch.Tensor,
    *condition: torch.Tensor,
) -> torch.Tensor:
    """What F must be so that (t - t') F(x_t, t, t') = d v + (t - d - t') F(x_{t-d}, t - d, t'); clamped as published."""
    step = torch.minimum(torch.full_like(t, STEP), t - target)
    later = predict(average, x - wide(step) * goal, t - step, target, *condition)
    slope = (wide(t - target) * f - wide(t - step - target) * later) / wide(step.clamp_min(1e-6))
    return f - (slope - goal).clamp(-1, 1)


def _rectify(model: torch.nn.Module, x0: torch.Tensor, *condition: torch.Tensor) -> torch.Tensor:
    """Fake minus real velocity at noised pictures of the network's own one step; clamped as published."""
    t = torch.rand(len(x0), device=x0.device)
    x = torch.lerp(x0, torch.randn_like(x0), wide(t))
    return (predict(model, x, -t, -t, *condition) - predict(model, x, t, t, *condition)).clamp(-1, 1)


@torch.no_grad()
def sample_few(model: torch.nn.Module, noise: torch.Tensor, times: list[float], *condition: torch.Tensor) -> torch.Tensor:
    """The released sampler in its style `few`: x0 = x - t F(x, t, 0); the next x is x0 noised anew (global seed)."""
    x0, x = noise, noise
    for i, t in enumerate(times):
        if i:
            x = torch.lerp(x0, torch.randn_like(noise), t)
        now = torch.full((len(noise),), t, device=noise.device)
        x0 = x - t * predict(model, x, now, torch.zeros_like(now), *condition)
    return x0


def score_twin(model: torch.nn.Module, frozen: Frozen, captions: list[str], noise: torch.Tensor, times: list[float]) -> Any:
    """Adherence of the sampler at given times."""
    torch.manual_seed(1)
    text, mask = frozen.read(captions)
    parts = zip(noise.split(256), text.split(256), mask.split(256), strict=True)
    drawn = torch.cat([sample_few(model, n, times, t, m) for n, t, m in parts])
    return measure_adherence(captions, list(frozen.decode(drawn)))


def save_model(model: Any, folder: Path) -> None:
    """A network of stock class in bfloat16, one file; a second time embedder's tensors stand beside the stock ones."""
    folder.mkdir(parents=True, exist_ok=True)
    named = rename_second(model.state_dict(), HELD, SECOND)
    weights = {name: value.bfloat16().contiguous() for name, value in named.items() if name != "patch_embed.pos_embed"}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    config = {"_class_name": type(model).__name__, "_diffusers_version": "0.39.0"}
    config |= {key: value for key, value in dict(model.config).items() if not key.startswith("_")}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_twin(folder: Path) -> SanaTransformer2DModel:
    """What `save_model` wrote of a TwinFlow student, in float32."""
    model = SanaTransformer2DModel.from_config(json.loads((folder / "config.json").read_text()))
    model.time_embed = TwoTimes(model.config.num_attention_heads * model.config.attention_head_dim, 1.0)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    model.load_state_dict(model.state_dict() | rename_second({k: v.float() for k, v in weights.items()}))
    return model.eval()


def train_twinflow(work: Path, start: Path, budget: Budget, batch: int, log: Log, device: str) -> None:
    """Train the teacher in `work` as a TwinFlow student; save to `work`/twinflow."""
    torch.manual_seed(51)
    frozen = Frozen.load(start, device)
    data = cache_examples(work, frozen, 16384, log)
    model = make_twin(SanaTransformer2DModel.from_pretrained(work / "teacher")).to(device).train()
    captions, noise = held_out_set(128, device)

    def make_loss(model: SanaTransformer2DModel, average: SanaTransformer2DModel, share: float) -> torch.Tensor:
        pick = torch.randint(len(data["x0"]), (batch,), device=device)
        return self_adversarial_loss(model, average, data["x0"][pick].float(), data["text"][pick], data["mask"][pick])

    def check(model: torch.nn.Module) -> str:
        return f"1 step: {describe(score_twin(model, frozen, captions, noise, [1.0]))}"

    log(f"twinflow: {sum(p.numel() for p in model.parameters()):,} parameters; before, {check(model)}")
    save_model(train(work / "twinflow.pt", model, budget, make_loss, log, check), work / "twinflow")
