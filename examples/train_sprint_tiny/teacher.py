"""Stage 3: the teacher, a multi-step flow-matching SanaTransformer2DModel on the frozen latents and texts.

With flow time s in (0, 1] (1 is noise): x_s = (1 - s) x0 + s eps, and the network learns v = eps - x0. That is the very
network SanaSprintPipeline runs: its TrigFlow wrapper (t with tan t = s / (1 - s)) only rescales input and output, which is
SANA-Sprint's training-free conversion. The guidance input exists from the start, random, so the student inherits it.
A positional embedding (interpolation_scale) tells a token where it is; without one, place and attribute do not bind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from common import LATENT_CHANNELS, LATENT_SIZE, TEXT_WIDTH, Average, Log, draw_examples, steps_within, take_step
from diffusers import AutoencoderDC, SanaTransformer2DModel
from text import tokenize
from transformers import AutoTokenizer, Gemma2Model

from sprint_export.students.sprint_tiny.adherence import Adherence, measure_adherence

WIDTH, HEADS, LAYERS = 192, 6, 4


@dataclass
class Frozen:
    """The finished, frozen parts a denoiser is trained between."""

    vae: AutoencoderDC
    text_encoder: Gemma2Model
    tokenizer: AutoTokenizer
    device: str

    @classmethod
    def load(cls, folder: Path, device: str) -> Frozen:
        """Load what stages 1 and 2 saved."""
        return cls(
            AutoencoderDC.from_pretrained(folder / "vae").to(device).eval(),
            Gemma2Model.from_pretrained(folder / "text_encoder", attn_implementation="eager").to(device).eval(),
            AutoTokenizer.from_pretrained(folder / "tokenizer"),
            device,
        )

    @torch.no_grad()
    def read(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Text features float32 [N, 32, 128] and mask int64 [N, 32]."""
        ids, mask = (t.to(self.device) for t in tokenize(self.tokenizer, captions))
        parts = [self.text_encoder(i, m).last_hidden_state for i, m in zip(ids.split(512), mask.split(512), strict=True)]
        return torch.cat(parts), mask

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Unit-variance latents float32 [N, 16, 8, 8]."""
        scale = self.vae.config.scaling_factor
        return torch.cat([self.vae.encode(part.to(self.device)).latent * scale for part in pictures.split(256)])

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """uint8 pictures [N, 64, 64, 3]."""
        scale = self.vae.config.scaling_factor
        pictures = torch.cat([self.vae.decode(part / scale).sample for part in latents.float().split(256)])
        return (pictures.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def make_transformer() -> SanaTransformer2DModel:
    """SANA-Sprint's block at width 192: linear self-attention 6 x 32, cross-attention 3 x 64, GLUMBConv 2.5."""
    model = SanaTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        num_layers=LAYERS,
        num_cross_attention_heads=3,
        cross_attention_head_dim=WIDTH // 3,
        cross_attention_dim=WIDTH,
        caption_channels=TEXT_WIDTH,
        mlp_ratio=2.5,
        attention_bias=False,
        sample_size=LATENT_SIZE,
        patch_size=1,
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        interpolation_scale=1,
        guidance_embeds=True,
        guidance_embeds_scale=0.1,
        qk_norm="rms_norm_across_heads",
        timestep_scale=1.0,
    )
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.zeros_(model.proj_out.bias)
    return model


def velocity(
    model: torch.nn.Module, x: torch.Tensor, s: torch.Tensor, guidance: torch.Tensor, text: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """v [N, 16, 8, 8] in float32 at latents x, flow times s [N] and guidance [N] (already times 0.1)."""
    with torch.autocast(x.device.type, torch.bfloat16):
        v: torch.Tensor = model(x, text, timestep=s, guidance=guidance, encoder_attention_mask=mask).sample
    return v.float()


@torch.no_grad()
def sample_euler(
    model: torch.nn.Module, noise: torch.Tensor, text: torch.Tensor, mask: torch.Tensor, steps: int, keep: bool = False
) -> torch.Tensor:
    """Integrate dx/ds = v from s = 1 to 0 in equal steps; `keep` returns all points [steps + 1, N, ...]."""
    x, points = noise, [noise]
    guidance = torch.full((len(x),), 0.45, device=x.device)
    for i in range(steps):
        s = torch.full((len(x),), 1 - i / steps, device=x.device)
        x = x - velocity(model, x, s, guidance, text, mask) / steps
        points.append(x)
    return torch.stack(points) if keep else x


def score(model: torch.nn.Module, frozen: Frozen, captions: list[str], noise: torch.Tensor, steps: int) -> Adherence:
    """Adherence of `steps` Euler steps (1 step is the one-step student's sampler) on given captions and noise."""
    text, mask = frozen.read(captions)
    model.eval()
    parts = [
        sample_euler(model, n, t, m, steps) for n, t, m in zip(noise.split(256), text.split(256), mask.split(256), strict=True)
    ]
    return measure_adherence(captions, list(frozen.decode(torch.cat(parts))))


def describe(result: Adherence) -> str:
    """One line of percentages."""
    return " ".join(f"{name} {value:.1%}" for name, value in vars(result).items() if name != "pictures")


def train_teacher(folder: Path, seconds: float, batch: int, log: Log, device: str, examples: int = 32768) -> None:
    """Train for `seconds` on `examples` cached latents; save the averaged network to `folder`/teacher."""
    torch.manual_seed(0)
    rng = np.random.default_rng(3)
    frozen = Frozen.load(folder, device)
    texts, masks, latents = [], [], []
    for _ in range(examples // 2048):
        _, captions, pictures = draw_examples(2048, rng)
        text, mask = frozen.read(captions)
        texts.append(text.bfloat16())
        masks.append(mask)
        latents.append(frozen.encode(pictures))
    text_all, mask_all, x0_all = torch.cat(texts), torch.cat(masks), torch.cat(latents)
    log(f"teacher: {examples} latents and texts cached, latent std {x0_all.std().item():.3f}")
    model = make_transformer().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)
    average = Average(model, 0.995)
    log(f"teacher: {sum(p.numel() for p in model.parameters()):,} parameters, batch {batch}")
    check_captions = draw_examples(96, np.random.default_rng(4))[1]
    check_noise = torch.randn(96, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, generator=torch.Generator().manual_seed(5)).to(
        device
    )
    losses: list[torch.Tensor] = []
    for step, share in steps_within(seconds, 1e-3, 100, optimizer):
        pick = torch.randint(len(x0_all), (batch,), device=device)
        x0, eps = x0_all[pick], torch.randn(batch, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, device=device)
        s = torch.sigmoid(torch.randn(batch, device=device) + 0.4)
        s = torch.where(torch.rand_like(s) < 0.1, torch.ones_like(s), s)
        x = torch.lerp(x0, eps, s[:, None, None, None])
        v = velocity(model, x, s, 0.1 + 0.4 * torch.rand_like(s), text_all[pick], mask_all[pick])
        loss = (v - (eps - x0)).square().mean()
        take_step(model, optimizer, average, loss, step)
        losses.append(loss.detach())
        if step % 100 == 0:
            log(f"teacher step {step} ({share:.0%}): loss {torch.stack(losses[-100:]).mean().item():.4f}")
        if step % 500 == 499:
            log(f"teacher 8 steps: {describe(score(average.module, frozen, check_captions, check_noise, 8))}")
            average.module.save_pretrained(folder / "teacher_partial")
    average.module.save_pretrained(folder / "teacher")
    result = score(average.module, frozen, check_captions, check_noise, 20)
    log(f"teacher done after {step + 1} steps; 20 steps: {describe(result)}")
