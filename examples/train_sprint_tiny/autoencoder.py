"""Stage 1: a small AutoencoderDC, 64x64 pictures to 16 x 8 x 8 latents.

Loss: L1 + MSE on pixels, plus 0.01 (mean^2 + (var - 1)^2) a latent channel, so that one scaling factor makes the
latents unit variance. A little noise on the latents makes the decoder forgive a student that is slightly off.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import LATENT_CHANNELS, Log, draw_examples, steps_within
from diffusers import AutoencoderDC

from sprint_export.students.sprint_tiny.world import all_scenes, render_scene


def make_autoencoder() -> AutoencoderDC:
    """DC-AE's block kinds at a width that trains on a CPU: three ResBlock stages, one EfficientViT stage."""
    kinds = ("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock")
    return AutoencoderDC(
        in_channels=3,
        latent_channels=LATENT_CHANNELS,
        attention_head_dim=32,
        encoder_block_types=kinds,
        decoder_block_types=kinds,
        encoder_block_out_channels=(32, 32, 64, 128),
        decoder_block_out_channels=(32, 32, 64, 128),
        encoder_layers_per_block=(0, 1, 1, 1),
        decoder_layers_per_block=(0, 1, 1, 1),
        encoder_qkv_multiscales=((), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (5,)),
        upsample_block_type="interpolate",
        downsample_block_type="conv",
        decoder_act_fns="silu",
        scaling_factor=1.0,
    )


def train_autoencoder(folder: Path, seconds: float, batch: int, log: Log, device: str) -> None:
    """Train for `seconds` and save to `folder`/vae."""
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    model = make_autoencoder().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.95), weight_decay=0.01)
    scenes = list(all_scenes())
    log(f"autoencoder: {sum(p.numel() for p in model.parameters()):,} parameters, batch {batch}")
    for step, share in steps_within(seconds, 1.5e-3, 30, optimizer):
        pictures = np.stack([render_scene(scenes[rng.integers(len(scenes))], rng) for _ in range(batch)])
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1).to(device)
        with torch.autocast(device, torch.bfloat16):
            z = model.encode(x.contiguous(memory_format=torch.channels_last)).latent.float()
            y = model.decode(z + 0.05 * torch.randn_like(z)).sample.float()
        channels = z.transpose(0, 1).flatten(1)
        spread = (channels.mean(1).square() + (channels.var(1) - 1).square()).mean()
        error = y - x
        loss = error.abs().mean() + error.square().mean() + 0.01 * spread
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            psnr = 10 * torch.log10(4 / error.square().mean()).item()
            log(f"autoencoder step {step} ({share:.0%}): loss {loss.item():.4f}, psnr {psnr:.2f} dB, std {z.std().item():.3f}")
    model.eval()
    with torch.no_grad():
        _, _, x = draw_examples(2048, rng)
        std = torch.cat([model.encode(part.to(device)).latent for part in x.split(256)]).std().item()
    model.register_to_config(scaling_factor=1 / std)
    model.save_pretrained(folder / "vae")
    log(f"autoencoder done after {step + 1} steps, scaling_factor {1 / std:.4f}")
