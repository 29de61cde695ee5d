"""The reference: the stock SanaSprintPipeline, loaded by the stock classes from the student's own folder, in float32.

Nothing of our reading comes between the folder and these classes, so a fault of our loader shows as a difference. Students with
random weights have no folder; theirs is filled from their handles. Attention of the text encoder is eager, the one form that
applies Gemma-2's soft cap in every version of transformers.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from diffusers.schedulers import scheduling_scm
from transformers import Gemma2Model

from sprint_export.compute import CPU, Compute, Place
from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.students.family import Draws, Reference, time_calls
from sprint_export.students.folder import find_part
from sprint_export.students.lora import is_merged
from sprint_export.students.networks.gemma2 import ATTENTION
from sprint_export.students.sana_sprint.configs import SCHEDULER
from sprint_export.students.sana_sprint.prompt import open_stock_tokenizer
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP
from sprint_export.students.schedule import find_trigflow_time
from sprint_export.weights import choose_variant, materialize

STAGE = "PyTorch reference"  # of progress
Result = TypeVar("Result")
FOLDERS = {
    "text_encoder": ("text_encoder", "model"),
    "transformer": ("transformer", "diffusion_pytorch_model"),
    "vae_decoder": ("vae", "diffusion_pytorch_model"),
}
ON_DISK = {"embed_tokens": "disk", "layers": "disk", "norm": "cpu", "rotary_emb": "cpu"}  # of Gemma2Model
WHOLE_BYTES = 4 << 30  # of float32 weights in the CPU's memory; layers of a larger text encoder are read when they run


def make_reference(student: Student, roles: Sequence[str] = tuple(FOLDERS), device: str = CPU.device) -> SanaSprintPipeline:
    """The stock pipeline with the networks of these roles on a device; the others are None.

    Raises:
        InputError: a stock class refuses what lies in the folder.
    """
    parts: dict[str, Any] = {role: _make_network(student, role, device) if role in roles else None for role in FOLDERS}
    return SanaSprintPipeline(
        tokenizer=open_stock_tokenizer(student),
        text_encoder=parts["text_encoder"],
        vae=parts["vae_decoder"],
        transformer=parts["transformer"],
        scheduler=_make_scheduler(student.folder),
    )


def _make_network(student: Student, role: str, device: str) -> torch.nn.Module:
    component, folder, stem = student.components[role], _find_files(student, role), FOLDERS[role][1]
    if folder is None:
        return materialize(component.module, component.weights, device=device)
    cls: Any = {"text_encoder": Gemma2Model, "transformer": SanaTransformer2DModel, "vae_decoder": AutoencoderDC}[role]
    named: dict[str, Any] = {"torch_dtype": torch.float32}
    if role == "text_encoder":
        named = {"dtype": torch.float32, "attn_implementation": ATTENTION}
    values = sum(math.prod(handle.shape) for handle in component.weights.values())
    is_streamed = role == "text_encoder" and device == CPU.device and 4 * values > WHOLE_BYTES
    variant = choose_variant(folder, stem, student.variant) or None
    try:
        with hush(), tempfile.TemporaryDirectory() as unused:  # transformers reads safetensors where they lie; diffusers copies
            if is_streamed:
                named |= {"device_map": ON_DISK, "offload_folder": unused}
            network = cls.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **named)
    except Exception as error:  # the stock classes raise all kinds
        raise InputError(f"{folder}: {cls.__name__} itself cannot load it ({' '.join(str(error).split())[:300]})") from error
    real: torch.nn.Module = network.eval()
    return real if is_streamed else real.to(device)


def _find_files(student: Student, role: str) -> Path | None:
    """The folder of a network as its stock class reads it; None where its weights are in no such files."""
    name, parts = FOLDERS[role][0], student.parts
    given = {"text_encoder": parts.text_encoder, "vae_decoder": parts.decoder or parts.vae}.get(role)
    if given is not None:
        return find_part(Path(given), name)
    return None if student.folder is None or is_merged(student.components[role].weights) else student.folder / name


def _make_scheduler(folder: Path | None) -> SCMScheduler:
    return SCMScheduler.from_config(SCHEDULER) if folder is None else SCMScheduler.from_pretrained(folder / "scheduler")


def draw_reference(student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
    """Run the stock pipeline, one prompt at a time, in float32.

    The text encoder is loaded, reads all prompts and is dropped before the other networks are: it is most of the weights. What is
    kept of an earlier run needs no text encoder. Where the device's memory is too small for a pipeline, it goes on on the CPU.
    """
    noise, steps = draws.noise, len(draws.noise)
    seconds: dict[str, list[float]] = {}
    texts = _encode_prompts(student, draws, seconds, progress)
    stock = _Stock(student, ("transformer", "vae_decoder"), draws.compute)
    pipeline = stock.pipeline
    if draws.times:
        _give_times(pipeline.scheduler, draws.times)
    stock.time(pipeline.transformer, seconds.setdefault("transformer", []))
    stock.time(pipeline.vae.decoder, seconds.setdefault("vae_decoder", []))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []
    middle = INTERMEDIATE_TIMESTEP if steps == 2 else None  # the pipeline accepts one for two steps only
    side = student.latent_shape[1] * pipeline.vae_scale_factor

    def draw(i: int) -> npt.NDArray[np.uint8]:
        embeds, mask, start = (stock.place.compute.place(value) for value in (*texts[i], torch.from_numpy(noise[0, i : i + 1])))
        with _given_noise(noise[1:, i : i + 1]), _keep_latents(pipeline.vae, latents):
            image = pipeline(
                prompt=None,
                prompt_embeds=embeds,
                prompt_attention_mask=mask,
                num_inference_steps=steps,
                intermediate_timesteps=middle,
                guidance_scale=draws.guidance,
                height=side,
                width=side,
                latents=start,  # the pipeline itself multiplies by sigma_data
                use_resolution_binning=False,
                output_type="np",
            ).images
        picture: npt.NDArray[np.uint8] = np.rint(image * 255).astype(np.uint8)
        return picture

    for i, _ in enumerate(track(texts, Step(STAGE, "pictures"), progress)):
        pictures.append(stock.run(functools.partial(draw, i)))
        draws.hand_over(i, pictures[-1][0], latents[-1][0])
    return Reference(np.concatenate(pictures), np.concatenate(latents), seconds)


def _give_times(scheduler: Any, times: Sequence[float]) -> None:
    """Have a scheduler take these flow times, whatever the pipeline asks: its own `timesteps` ends in a TypeError (0.39)."""
    stock, angles = scheduler.set_timesteps, [*map(find_trigflow_time, times), 0.0]

    def set_timesteps(count: int, device: object = None, **_: Any) -> None:
        stock(count, timesteps=angles, device=device, max_timesteps=None, intermediate_timesteps=None)

    scheduler.set_timesteps = set_timesteps


class _Stock:
    """The stock pipeline with the networks of these roles: on a device while its memory suffices, then on the CPU."""

    def __init__(self, student: Student, roles: Sequence[str], compute: Compute) -> None:
        self.place = Place(compute, f"PyTorch reference, {' and '.join(roles)}")
        self.pipeline = self.place.attempt(lambda: make_reference(student, roles, self.place.compute.device))
        self.pipeline.set_progress_bar_config(disable=True)
        self._networks = [part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)]

    def time(self, network: Any, seconds: list[float]) -> None:
        """Note how long each call of one of its networks takes, until the device has done it."""
        place = self.place  # a hook that held the pipeline would be held by it, and neither be freed at once
        time_calls(network, seconds, lambda: place.compute.read_clock())

    def run(self, call: Callable[[], Result]) -> Result:
        """What a call of the pipeline gives."""

        def work() -> Result:
            with torch.no_grad(), self.place.compute.exact():
                return call()

        return self.place.attempt(work, *self._networks)


def _encode_prompts(
    student: Student, draws: Draws, seconds: dict[str, list[float]], progress: Progress
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Embeddings and mask of each prompt, as the pipeline's call makes them, on the CPU."""
    instruction = inspect.signature(SanaSprintPipeline.__call__).parameters["complex_human_instruction"].default

    @functools.cache
    def load() -> _Stock:
        stock = _Stock(student, ("text_encoder",), draws.compute)
        stock.time(stock.pipeline.text_encoder, seconds.setdefault("text_encoder", []))
        return stock

    def encode(prompt: str) -> dict[str, npt.NDArray[Any]]:
        stock = load()

        def call() -> tuple[torch.Tensor, torch.Tensor]:
            device = stock.place.compute.device  # by then the CPU, where the first one's memory was too small
            embeds, mask = stock.pipeline.encode_prompt(prompt, device=device, complex_human_instruction=instruction)
            return embeds, mask

        embeds, mask = stock.run(call)
        return {"embeds": embeds.cpu().numpy(), "mask": mask.cpu().numpy()}

    texts = []
    for prompt in track(draws.prompts, Step(STAGE, "prompts"), progress):
        text = draws.recall(["text", prompt], functools.partial(encode, prompt))
        texts.append((torch.from_numpy(text["embeds"]), torch.from_numpy(text["mask"])))
    return texts


@contextlib.contextmanager
def _keep_latents(vae: Any, latents: list[npt.NDArray[np.float32]]) -> Iterator[None]:
    """Note what the pipeline hands to its decoder, back at unit variance, of the pictures that were decoded."""
    decode = vae.decode

    def noting(z: torch.Tensor, *arguments: Any, **named: Any) -> Any:
        try:
            image = decode(z, *arguments, **named)
        except torch.OutOfMemoryError as error:  # which the pipeline would catch, and go on without a picture
            raise RuntimeError(f"out of memory: {error}") from error
        latents.append((z * vae.config.scaling_factor).cpu().numpy())
        return image

    vae.decode = noting
    try:
        yield
    finally:
        del vae.decode


@contextlib.contextmanager
def _given_noise(later: npt.NDArray[np.float32]) -> Iterator[None]:
    """Make the scheduler use this noise for its later steps; it draws once more after the last, where it multiplies by 0."""
    draws = iter([*torch.from_numpy(later), None])
    original = scheduling_scm.randn_tensor

    def given(shape: Any, *arguments: Any, device: Any = None, **named: Any) -> torch.Tensor:
        value = next(draws)
        return torch.zeros(shape, device=device) if value is None else value.to(device)

    scheduling_scm.randn_tensor = given
    try:
        yield
    finally:
        scheduling_scm.randn_tensor = original
