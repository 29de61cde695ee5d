"""The reference: stock diffusers classes with the second time embedder, sampled as TwinFlow's released UnifiedSampler does.

Its style `few` with stochast_ratio 1, in float32 with the state kept in float64: x_hat = x - t F(x, t, 0), and the next x is
x_hat noised anew; noise is given instead of drawn.
Source: inclusionAI/TwinFlow, src/methodes/twinflow/twinflow.py (a109a71), sampling_loop.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.students.family import Draws, Reference
from sprint_export.students.sana_sprint.reference import STAGE, Stock, encode_prompts
from sprint_export.students.twinflow_times import twinflow_times


def draw_reference(student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
    """Draw one prompt at a time, in float32; each picture is handed over."""
    seconds: dict[str, list[float]] = {}
    texts = encode_prompts(student, draws, seconds, progress)
    stock = Stock(student, ("transformer", "vae_decoder"), draws.compute)
    pipeline, times = stock.pipeline, draws.times or twinflow_times(len(draws.noise))
    for role, network in stock.networks.items():
        stock.time(network, seconds.setdefault(role, []))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []

    def draw(i: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        embeds, mask, *noise = map(stock.place.compute.place, (*texts[i], *torch.from_numpy(draws.noise[:, i : i + 1])))
        x = noise[0].double()
        for step, t in enumerate(times):
            now = torch.full((1,), t, device=embeds.device)
            velocity = pipeline.transformer(x.float(), embeds, timestep=now, encoder_attention_mask=mask).sample
            found = (x - t * velocity).double()
            if step + 1 < len(times):
                x = (1 - times[step + 1]) * found + times[step + 1] * noise[step + 1]
        image = pipeline.vae.decode(found.float() / pipeline.vae.config.scaling_factor).sample
        picture = pipeline.image_processor.postprocess(image, output_type="np")
        return np.rint(picture * 255).astype(np.uint8), found.float().cpu().numpy()

    for i, _ in enumerate(track(texts, Step(STAGE, "pictures"), progress)):
        picture, latent = stock.run(functools.partial(draw, i))
        pictures.append(picture)
        latents.append(latent)
        draws.hand_over(i, picture[0], latent[0])
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)
