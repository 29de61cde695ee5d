"""The reference: stock diffusers classes, loaded by themselves from the student's own folder, in float32, at TwinFlow's times.

The released wrapper does not run on today's diffusers; the stock transformer with its time module replaced is that wrapper to the
last bit (docs/decisions/0034). What is written here and not taken from diffusers is TwinFlow's alone: the time of two embedders
and the sampler's loop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline, ZImageTransformer2DModel
from diffusers.image_processor import VaeImageProcessor
from torch import nn
from transformers import Qwen3Model

from sprint_export.compute import CPU
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.students.chat_prompt import open_stock_tokenizer
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.family import Draws, Reference
from sprint_export.students.stock_networks import STAGE, StockNetworks, load_network
from sprint_export.students.twinflow_z.family import FAMILY, SECOND_EMBEDDER
from sprint_export.students.twinflow_z.published import TEMPLATE
from sprint_export.weights import materialize

TIME_SCALE = 1000.0
CLASSES: dict[str, Any] = {
    "text_encoder": Qwen3Model,
    "transformer": ZImageTransformer2DModel,
    "vae_decoder": AutoencoderKL,
}


class TwinTime(nn.Module):
    """Stands in for Z-Image's time embedder: temb(t, tt) of TwinFlow's wrapper, at tt = 0 as its sampler has it.

        t' = sign(t) (1 - |t|), tt' likewise        temb = T1(1000 |t'|) + T2(1000 (tt' - t')) |t' - tt'|
    The stock transformer hands on 1000 t', t' = 1 - s for flow time s > 0, and sign(0) makes tt' 0.
    """

    def __init__(self, first: nn.Module, second: nn.Module | None) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.mlp = first.mlp  # whose type the stock forward looks at

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """t [B], 1000 t' -> [B, 256]."""
        other = torch.zeros_like(t)
        total: torch.Tensor = self.first(t.abs())
        if self.second is None:
            return total
        total = total + self.second(other - t) * ((t - other).abs() / TIME_SCALE)[:, None].to(total.dtype)
        return total


def make_networks(
    student: Student, roles: Sequence[str], device: str = CPU.device, dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """The stock networks of these roles on a device; the transformer with TwinFlow's time. `dtype` as in `load_network`.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    components = student.components
    found: dict[str, Any] = {
        role: load_network(student, role, CLASSES[role], components[role].module, FOLDERS, device, dtype) for role in roles
    }
    if "transformer" in found:
        give_second_time(found["transformer"], student, device, dtype or torch.float32)
    return found


def give_second_time(transformer: Any, student: Student, device: str = CPU.device, dtype: torch.dtype = torch.float32) -> None:
    """Have a stock transformer take TwinFlow's time, with the student's own second embedder."""
    component, prefix = student.components["transformer"], SECOND_EMBEDDER
    own = {name.removeprefix(prefix): value for name, value in component.weights.items() if name.startswith(prefix)}
    second = materialize(component.module.get_submodule(prefix.rstrip(".")), own, dtype, device) if own else None
    transformer.t_embedder = TwinTime(transformer.t_embedder, second)


def draw_reference(student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
    """Run the stock networks, one prompt at a time, in float32.

    The text encoder reads all prompts and is dropped before the other networks are loaded. Where the device's memory is too
    small, it goes on on the CPU.
    """
    seconds: dict[str, list[float]] = {}
    texts = _encode_prompts(student, draws, seconds, progress)
    stock = StockNetworks(
        functools.partial(make_networks, student, ("transformer", "vae_decoder")),
        draws.compute,
        seconds,
        lambda role, network: network.decoder if role == "vae_decoder" else network,
    )
    processor = VaeImageProcessor()
    times = draws.times or FAMILY.plan_times(len(draws.noise))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []

    def draw(i: int) -> tuple[torch.Tensor, Any]:
        transformer, vae = stock.networks["transformer"], stock.networks["vae_decoder"]
        text, *noise = (stock.place.compute.place(value) for value in (texts[i], *torch.from_numpy(draws.noise[:, i : i + 1])))
        clean = sample_stock(transformer, [text], noise, times)
        return clean, processor.postprocess(decode_stock(vae, clean), output_type="np")

    for i, _ in enumerate(track(texts, Step(STAGE, "pictures"), progress)):
        clean, image = stock.run(functools.partial(draw, i))
        pictures.append(np.rint(image * 255).astype(np.uint8))
        latents.append(clean.cpu().numpy())
        draws.hand_over(i, pictures[-1][0], latents[-1][0])
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)


def sample_stock(
    transformer: Any, texts: Sequence[torch.Tensor], noise: Sequence[torch.Tensor], times: Sequence[float]
) -> torch.Tensor:
    """UnifiedSampler of TwinFlow with fresh noise each step (stochast_ratio 1): B texts [n, E], noise [B, C, h, w] -> x0.

    The transformer computes in the texts' type, all else in the noise's.
    """
    dtype = texts[0].dtype
    x = clean = noise[0]
    for i, s in enumerate(times):
        if i:
            x = (1 - s) * clean + s * noise[i]
        t = torch.full((len(x),), 1 - s, dtype=torch.float32, device=x.device)
        outs = transformer(list(x[:, :, None].to(dtype)), t, list(texts), return_dict=False)[0]
        clean = x + s * torch.stack(list(outs))[:, :, 0].to(x.dtype)  # v = -out
    return clean


def decode_stock(vae: Any, clean: torch.Tensor) -> torch.Tensor:
    """x0 [B, C, h, w] -> pictures [B, 3, H, W] in [-1, 1], as the stock pipeline's call does."""
    shift = vae.config.shift_factor or 0.0
    image: torch.Tensor = vae.decode(clean / vae.config.scaling_factor + shift, return_dict=False)[0]
    return image


def encode_stock(pipeline: ZImagePipeline, prompts: Sequence[str], device: str, tokens: int) -> list[torch.Tensor]:
    """Rows [n, E] of each prompt, as the stock pipeline's encode_prompt makes them."""
    rows, _ = pipeline.encode_prompt(list(prompts), device, do_classifier_free_guidance=False, max_sequence_length=tokens)
    return list(rows)


def _encode_prompts(student: Student, draws: Draws, seconds: dict[str, list[float]], progress: Progress) -> list[torch.Tensor]:
    """Rows [n, E] of each prompt, as the stock pipeline's encode_prompt makes them, on the CPU."""
    tokenizer = open_stock_tokenizer(student)
    tokenizer.chat_template = TEMPLATE

    @functools.cache
    def load() -> tuple[StockNetworks, ZImagePipeline]:
        stock = StockNetworks(functools.partial(make_networks, student, ("text_encoder",)), draws.compute, seconds)
        encoder = stock.networks["text_encoder"]
        pipeline = ZImagePipeline(FlowMatchEulerDiscreteScheduler(), None, encoder, tokenizer, None)
        return stock, pipeline

    def encode(prompt: str) -> dict[str, npt.NDArray[Any]]:
        stock, pipeline = load()

        def call() -> torch.Tensor:
            return encode_stock(pipeline, [prompt], stock.place.compute.device, student.prompt.tokens)[0]

        return {"rows": stock.run(call).cpu().numpy()}

    rows = (
        draws.recall(["text", prompt], functools.partial(encode, prompt))["rows"]
        for prompt in track(draws.prompts, Step(STAGE, "prompts"), progress)
    )
    return [torch.from_numpy(each) for each in rows]
