"""A ControlNet for the embedded student: the edges of the shapes say where they are, to the pixel.

The student is frozen; a SanaControlNetModel of two blocks learns residuals that make the student's one step end in the picture
whose edges it was shown: the loss is (x_s - s v - x0)^2, mostly at s = 1, and the same of the pictures that the frozen decoder
makes of both. Without pictures the autoencoder is the limit: of 256 moved scenes that it only encodes and decodes, 94.5 % are
still read right. Text and edges leave nothing open, so no teacher is needed. Shapes lie up to 4 px from where captions alone put
them (world.render_moved).
Its outputs start at zero (the class does that), its blocks as the student's first ones, whose norms of queries and keys it lacks.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from common import Log, draw_scenes, to_tensor
from diffusers import SanaControlNetModel, SanaTransformer2DModel
from distill import held_out_set
from recover import LATENT
from resume import Budget, train
from teacher import Frozen

from sprint_export.students.sprint_tiny.adherence import measure_adherence
from sprint_export.students.sprint_tiny.edges import find_edges, measure_edges
from sprint_export.students.sprint_tiny.world import read_caption, render_moved, write_caption

LAYERS = 2
PICTURES = 32768
PIXEL_WEIGHT = 4.0  # of the pictures' squared error in [-1, 1], beside that of latents
GUIDANCE = 0.45  # SanaSprintPipeline's 4.5, times 0.1


def make_controlnet(student: SanaTransformer2DModel) -> SanaControlNetModel:
    """Two blocks with the student's weights wherever names and shapes agree; outputs at zero."""
    keys = SanaControlNetModel.__init__.__wrapped__.__code__.co_varnames
    config = {key: value for key, value in student.config.items() if key in keys}
    model = SanaControlNetModel(**config | {"num_layers": LAYERS})
    own = model.state_dict()
    kept = {key: value for key, value in student.state_dict().items() if key in own and own[key].shape == value.shape}
    embedder = {key.replace("time_embed.", "time_embed.emb."): value for key, value in student.state_dict().items()}
    kept |= {key: value for key, value in embedder.items() if ".emb.timestep_embedder." in key}
    model.load_state_dict(own | kept)
    return model


def draw_controls(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """1024 moved scenes: pictures and edges uint8 [1024, 64, 64, 3], captions."""
    rng = np.random.default_rng(seed)
    scenes = draw_scenes(1024, rng)
    pictures = [render_moved(scene, rng) for scene in scenes]
    return np.stack(pictures), np.stack([find_edges(each) for each in pictures]), [write_caption(each, rng) for each in scenes]


def cache_controls(work: Path, frozen: Frozen, count: int, log: Log) -> dict[str, torch.Tensor]:
    """`count` moved scenes: pictures, latents of them and of their edges, texts and masks; cached on disk."""
    path = work / "controls.pt"
    if not path.exists():
        made = []
        with ProcessPoolExecutor() as processes:
            for pictures, edges, captions in processes.map(draw_controls, range(41, 41 + count // 1024)):
                text, mask = frozen.read(captions)
                latents = {"x0": frozen.encode(to_tensor(list(pictures))), "edges": frozen.encode(to_tensor(list(edges)))}
                parts = {name: value.bfloat16() for name, value in {**latents, "text": text}.items()}
                made.append({**parts, "mask": mask, "pictures": torch.from_numpy(pictures).to(frozen.device)})
        torch.save({key: torch.cat([part[key] for part in made]) for key in made[0]}, path)
        log(f"controls: {count} pictures, edges and texts cached")
    stored: dict[str, torch.Tensor] = torch.load(path, map_location=frozen.device, weights_only=True)
    return stored


def controlled_velocity(
    student: SanaTransformer2DModel,
    controlnet: SanaControlNetModel,
    x: torch.Tensor,
    s: torch.Tensor,
    edges: torch.Tensor,
    text: torch.Tensor,
    mask: torch.Tensor,
) -> torch.Tensor:
    """The student's v [N, 16, 8, 8] in float32 with the residuals that the edges' latents make."""
    guidance = torch.full_like(s, GUIDANCE)
    with torch.autocast(x.device.type, torch.bfloat16):
        residuals = controlnet(x, text, s, edges, encoder_attention_mask=mask).controlnet_block_samples
        v: torch.Tensor = student(
            x, text, timestep=s, guidance=guidance, encoder_attention_mask=mask, controlnet_block_samples=residuals
        ).sample
    return v.float()


@torch.no_grad()
def score_control(
    student: SanaTransformer2DModel, controlnet: SanaControlNetModel, frozen: Frozen, captions: list[str], noise: torch.Tensor
) -> dict[str, dict[str, float]]:
    """Adherence and edges obeyed in one step, with the ControlNet and without, on held-out captions."""
    rng = np.random.default_rng(42)
    controls = [find_edges(render_moved(read_caption(caption), rng)) for caption in captions]
    text, mask = frozen.read(captions)
    edges, rows = frozen.encode(to_tensor(controls)), {}
    for wording, model in (("with control", controlnet.eval()), ("without", make_controlnet(student).eval())):
        parts = zip(noise.split(256), edges.split(256), text.split(256), mask.split(256), strict=True)
        drawn = [n - controlled_velocity(student, model, n, torch.ones(len(n), device=n.device), e, t, m) for n, e, t, m in parts]
        pictures = list(frozen.decode(torch.cat(drawn)))
        rows[f"{wording}, 1 steps"] = vars(measure_adherence(captions, pictures)) | vars(measure_edges(pictures, controls))
    controlnet.train()
    return rows


def decode_float(frozen: Frozen, latents: torch.Tensor) -> torch.Tensor:
    """Pictures float32 [N, 3, 64, 64] in about [-1, 1], with gradients."""
    with torch.autocast(latents.device.type, torch.bfloat16):
        pictures: torch.Tensor = frozen.vae.decode(latents / frozen.vae.config.scaling_factor).sample
    return pictures.float()


def train_controlnet(work: Path, start: Path, budget: Budget, batch: int, log: Log, device: str) -> None:
    """Train a ControlNet for the student in `start`; save to `work`/controlnet."""
    torch.manual_seed(41)
    frozen = Frozen.load(start, device)
    frozen.vae.requires_grad_(False)
    data = cache_controls(work, frozen, PICTURES, log)
    student = SanaTransformer2DModel.from_pretrained(start / "transformer").to(device).eval().requires_grad_(False)
    captions, noise = held_out_set(256, device)

    def make_loss(model: SanaControlNetModel, average: SanaControlNetModel, share: float) -> torch.Tensor:
        pick = torch.randint(len(data["x0"]), (batch,), device=device)
        x0, eps = data["x0"][pick].float(), torch.randn(batch, *LATENT, device=device)
        s = torch.where(torch.rand(batch, device=device) < 0.8, 1.0, 0.2 + 0.8 * torch.rand(batch, device=device))
        wide = s[:, None, None, None]
        x = torch.lerp(x0, eps, wide)
        v = controlled_velocity(student, model, x, s, data["edges"][pick].float(), data["text"][pick], data["mask"][pick])
        denoised = x - wide * v
        wanted = data["pictures"][pick].permute(0, 3, 1, 2).float() / 127.5 - 1
        return (denoised - x0).square().mean() + PIXEL_WEIGHT * (decode_float(frozen, denoised) - wanted).square().mean()

    def check(model: torch.nn.Module) -> str:
        rows = score_control(student, model, frozen, captions, noise).items()
        wording = "{}: edges obeyed {obeyed:.1%} (off by {distance:.2f} px), everything {everything:.1%}, form {form:.1%}"
        return "; ".join(wording.format(name, **row) for name, row in rows)

    model = make_controlnet(student).to(device).train()
    log(f"controlnet: {sum(p.numel() for p in model.parameters()):,} parameters")
    train(work / "controlnet.pt", model, budget, make_loss, log, check).save_pretrained(work / "controlnet")
