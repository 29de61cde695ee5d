"""The reference: stock diffusers classes, loaded by themselves from the student's own folder, in float32, at TwinFlow's times.

The released wrapper does not run on today's diffusers; the stock transformer with its time module replaced is that wrapper to the
last bit (docs/decisions/0033). What is written here and not taken from diffusers is TwinFlow's alone: the time of two embedders
and the sampler's loop.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

from sprint_export.compute import CPU
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.students.chat_prompt import open_stock_tokenizer
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.family import Draws, Reference
from sprint_export.students.networks.qwen2_5 import make_qwen2
from sprint_export.students.stock_networks import STAGE, StockNetworks, load_network
from sprint_export.students.twinflow_qwen.family import FAMILY, SECOND_EMBEDDER
from sprint_export.weights import materialize

CLASSES: dict[str, Any] = {
    "text_encoder": Qwen2_5_VLForConditionalGeneration,
    "transformer": QwenImageTransformer2DModel,
    "vae_decoder": AutoencoderKLQwenImage,
}


class TwinTime(nn.Module):
    """Stands in for Qwen-Image's time embedder: temb(t, tt) = E1(t) + E2(tt) (t - tt) of TwinFlow's wrapper, at tt = 0."""

    def __init__(self, first: nn.Module, second: nn.Module | None) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, timestep: torch.Tensor, hidden: torch.Tensor, *_: Any) -> torch.Tensor:
        """timestep [B] in [0, 1] -> [B, D]."""
        total: torch.Tensor = self.first(timestep, hidden)
        if self.second is None:
            return total
        other = torch.zeros_like(timestep)
        total = total + self.second(other, hidden) * (timestep - other)[:, None].to(total.dtype)
        return total


def make_networks(
    student: Student, roles: Sequence[str], device: str = CPU.device, dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """The stock networks of these roles on a device; the transformer with TwinFlow's time. `dtype` as in `load_network`.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    found: dict[str, Any] = {role: _make_network(student, role, device, dtype) for role in roles}
    if "transformer" in found:
        give_second_time(found["transformer"], student, device, dtype or torch.float32)
    return found


def give_second_time(transformer: Any, student: Student, device: str = CPU.device, dtype: torch.dtype = torch.float32) -> None:
    """Have a stock transformer take TwinFlow's time, with the student's own second embedder."""
    component, prefix = student.components["transformer"], SECOND_EMBEDDER
    own = {name.removeprefix(prefix): value for name, value in component.weights.items() if name.startswith(prefix)}
    second = materialize(component.module.get_submodule(prefix.rstrip(".")), own, dtype, device) if own else None
    transformer.time_text_embed = TwinTime(transformer.time_text_embed, second)


def _make_network(student: Student, role: str, device: str, dtype: torch.dtype | None) -> nn.Module:
    module = _make_language_model(student) if role == "text_encoder" else student.components[role].module
    return load_network(student, role, CLASSES[role], module, FOLDERS, device, dtype)


def _make_language_model(student: Student) -> Qwen2_5_VLTextModel:
    """Qwen2.5-VL's own, on `meta` but for the frequencies of its rotations, which are those of a Qwen2Model."""
    config = student.configs["text_encoder"]
    with torch.device("meta"):
        model = Qwen2_5_VLTextModel(Qwen2_5_VLTextConfig(**config))
    frequencies = make_qwen2(config).rotary_emb.inv_freq
    for module in model.modules():
        if hasattr(module, "inv_freq"):
            module.inv_freq = frequencies
    return model.eval()


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
    times = draws.times or FAMILY.plan_times(len(draws.noise))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []

    def draw(i: int) -> tuple[torch.Tensor, torch.Tensor]:
        pipeline = QwenImagePipeline(None, stock.networks["vae_decoder"], None, None, stock.networks["transformer"])
        text, *noise = (stock.place.compute.place(value) for value in (texts[i], *torch.from_numpy(draws.noise[:, i : i + 1])))
        clean = sample_stock(pipeline, text, noise, times)
        return clean, decode_stock(pipeline, clean)

    for i, _ in enumerate(track(texts, Step(STAGE, "pictures"), progress)):
        clean, image = stock.run(functools.partial(draw, i))
        picture = (image / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()  # as VaeImageProcessor does
        pictures.append(np.rint(picture * 255).astype(np.uint8))
        latents.append(clean.cpu().numpy())
        draws.hand_over(i, pictures[-1][0], latents[-1][0])
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)


def sample_stock(
    pipeline: QwenImagePipeline, text: torch.Tensor, noise: Sequence[torch.Tensor], times: Sequence[float]
) -> torch.Tensor:
    """UnifiedSampler of TwinFlow with fresh noise each step (stochast_ratio 1): text [B, n, E], noise [B, C, h, w] -> x0.

    The transformer computes in the text's type, all else in the noise's.
    """
    count, channels, height, width = noise[0].shape
    factor = pipeline.vae_scale_factor
    x = clean = noise[0]
    for i, s in enumerate(times):
        if i:
            x = (1 - s) * clean + s * noise[i]
        packed = pipeline._pack_latents(x.to(text.dtype), count, channels, height, width)
        velocity = pipeline.transformer(
            hidden_states=packed,
            encoder_hidden_states=text,
            timestep=torch.full((count,), s, dtype=torch.float32, device=x.device),
            img_shapes=[[(1, height // 2, width // 2)]] * count,
            return_dict=False,
        )[0].to(x.dtype)
        clean = x - s * pipeline._unpack_latents(velocity, height * factor, width * factor, factor)[:, :, 0]
    return clean


def decode_stock(pipeline: QwenImagePipeline, clean: torch.Tensor) -> torch.Tensor:
    """x0 [B, C, h, w] -> pictures [B, 3, H, W] in [-1, 1], as the stock pipeline's call does."""
    config = pipeline.vae.config
    mean, deviation = (
        torch.tensor(config[f"latents_{kind}"], dtype=clean.dtype, device=clean.device).view(1, -1, 1, 1, 1)
        for kind in ("mean", "std")
    )
    image: torch.Tensor = pipeline.vae.decode(clean[:, :, None] * deviation + mean, return_dict=False)[0][:, :, 0]
    return image


def encode_stock(pipeline: QwenImagePipeline, prompts: Sequence[str], device: str) -> list[torch.Tensor]:
    """Rows [n, E] of each prompt, as the stock pipeline's encode_prompt makes them."""
    rows, mask = pipeline.encode_prompt(list(prompts), device=device)
    if mask is None:  # no prompt has padding
        return list(rows)
    return [each[kept.bool()] for each, kept in zip(rows, mask, strict=True)]


def _encode_prompts(student: Student, draws: Draws, seconds: dict[str, list[float]], progress: Progress) -> list[torch.Tensor]:
    """Rows [1, n, E] of each prompt, as the stock pipeline's encode_prompt makes them, on the CPU."""
    tokenizer = open_stock_tokenizer(student)

    @functools.cache
    def load() -> StockNetworks:
        return StockNetworks(functools.partial(make_networks, student, ("text_encoder",)), draws.compute, seconds)

    def encode(prompt: str) -> dict[str, npt.NDArray[Any]]:
        stock = load()
        pipeline = QwenImagePipeline(None, None, stock.networks["text_encoder"], tokenizer, None)
        pipeline.tokenizer_max_length = student.prompt.tokens - pipeline.prompt_template_encode_start_idx

        def call() -> torch.Tensor:
            return encode_stock(pipeline, [prompt], stock.place.compute.device)[0][None]

        return {"rows": stock.run(call).cpu().numpy()}

    prompts = track(draws.prompts, Step(STAGE, "prompts"), progress)
    rows = (draws.recall(["text", prompt], functools.partial(encode, prompt))["rows"] for prompt in prompts)
    return [torch.from_numpy(each) for each in rows]
