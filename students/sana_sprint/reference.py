"""The reference: the stock SanaSprintPipeline, loaded by the stock classes from the student's own folder, in float32.

Nothing of our reading comes between the folder and these classes, so a fault of our loader shows as a difference. Students with
random weights have no folder; theirs is filled from their handles. Attention of the text encoder is eager, the one form that
applies Gemma-2's soft cap in every version of transformers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderDC, SanaControlNetModel, SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from diffusers.schedulers import scheduling_scm
from transformers import Gemma2Model

from sprint_export.compute import CPU, Compute, Place
from sprint_export.errors import InputError
from sprint_export.files import temporary_folder
from sprint_export.libraries import hush
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.session import to_uint8
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.students.family import Draws, Reference, time_calls
from sprint_export.students.folder import find_part
from sprint_export.students.lora import is_merged
from sprint_export.students.networks.gemma2 import ATTENTION
from sprint_export.students.sana_sprint.configs import SCHEDULER
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.prompt import open_stock_tokenizer
from sprint_export.students.sana_sprint.times import INTERMEDIATE_TIMESTEP
from sprint_export.students.sana_sprint.two_times import HELD, TIMES, embed_two_times
from sprint_export.students.schedule import find_trigflow_time
from sprint_export.students.source import load_student
from sprint_export.weights import choose_variant, materialize

STAGE = "PyTorch reference"  # of progress
Result = TypeVar("Result")
CONTROLNET = "controlnet"  # its role, and its folder
CLASSES: dict[str, Any] = {
    "text_encoder": Gemma2Model,
    "transformer": SanaTransformer2DModel,
    "vae_decoder": AutoencoderDC,
    CONTROLNET: SanaControlNetModel,
}
ON_DISK = {"embed_tokens": "disk", "layers": "disk", "norm": "cpu", "rotary_emb": "cpu"}  # of Gemma2Model
WHOLE_BYTES = 4 << 30  # of float32 weights in the CPU's memory; layers of a larger text encoder are read when they run
WIDENED_BYTES = 1 << 30  # the same of a transformer, whose blocks are widened when they run: the decoder is drawn beside it


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
        scheduler=make_scheduler(student.folder),
    )


def _make_network(student: Student, role: str, device: str) -> torch.nn.Module:
    component, files = student.components[role], find_files(student, role)
    if files is None:
        return materialize(component.module, component.weights, device=device)
    folder, stem = files
    cls = CLASSES[role]
    handles = component.weights.values()
    size = 4 * sum(math.prod(handle.shape) for handle in handles) if device == CPU.device else 0
    is_streamed = role == "text_encoder" and size > WHOLE_BYTES
    stored = {handle.dtype for handle in handles}
    kept = stored.pop() if role == "transformer" and size > WIDENED_BYTES and len(stored) == 1 else torch.float32
    named: dict[str, Any] = {"torch_dtype": kept}
    if role == "text_encoder":
        named = {"dtype": torch.float32, "attn_implementation": ATTENTION}
    variant = choose_variant(folder, stem, student.variant) or None
    try:
        with hush(), temporary_folder() as unused:  # transformers reads safetensors where they lie; diffusers copies
            if is_streamed:
                named |= {"device_map": ON_DISK, "offload_folder": unused}
            network = cls.from_pretrained(folder, variant=variant, use_safetensors=True, local_files_only=True, **named)
    except Exception as error:  # the stock classes raise all kinds
        raise InputError(f"{folder}: {cls.__name__} itself cannot load it ({' '.join(str(error).split())[:300]})") from error
    real: torch.nn.Module = network.eval()
    if kept != torch.float32:
        _widen_when_called(real)
    if role == "transformer":
        embed_second_time(real, student)
    return real if is_streamed else real.to(device)


def _widen_when_called(network: torch.nn.Module) -> None:
    """Have a network in the type of its file compute in float32: a block widens its weights for each call, the rest at once."""
    within: set[torch.nn.Parameter] = set()
    for block in (block for part in network.children() if isinstance(part, torch.nn.ModuleList) for block in part):
        stored = {parameter: parameter.data for parameter in block.parameters()}
        within |= set(stored)
        block.register_forward_pre_hook(lambda *_, stored=stored: _fill({each: value.float() for each, value in stored.items()}))
        block.register_forward_hook(lambda *_, stored=stored: _fill(stored))
    _fill({parameter: parameter.data.float() for parameter in network.parameters() if parameter not in within})


def _fill(values: Mapping[torch.nn.Parameter, torch.Tensor]) -> None:
    for parameter, value in values.items():
        parameter.data = value


def embed_second_time(network: torch.nn.Module, student: Student) -> None:
    """Give a stock transformer the second time embedder of a student that has one; stock classes leave its tensors out."""
    weights = student.components["transformer"].weights
    second = {name.removeprefix(TIMES): weights[name].load().float() for name in weights if name.startswith(HELD)}
    if second:
        first = network.get_submodule("time_embed").state_dict()
        embed_two_times(network, student.configs["transformer"]).get_submodule("time_embed").load_state_dict(first | second)


def find_files(student: Student, role: str) -> tuple[Path, str] | None:
    """The folder that a stock class loads a network from, and its weights' stem; None where weights are in no such files."""
    name, stem = FOLDERS.get(role, (role, "diffusion_pytorch_model"))
    parts = student.parts
    given = {
        CONTROLNET: parts.controlnet,
        "vae_decoder": parts.decoder or parts.vae,
        "text_encoder": parts.text_encoder,
    }.get(role)
    if given is not None:
        return find_part(Path(given), name), stem
    if student.folder is None or is_merged(student.components[role].weights):
        return None
    return student.folder / name, stem


def make_scheduler(folder: Path | None) -> SCMScheduler:
    """The folder's scheduler; of students without one the family's."""
    return SCMScheduler.from_config(SCHEDULER) if folder is None else SCMScheduler.from_pretrained(folder / "scheduler")


def draw_reference(student: Student, draws: Draws, progress: Progress = quiet) -> Reference:
    """Run the stock pipeline, one prompt at a time, in float32.

    The text encoder is loaded, reads all prompts and is dropped before the other networks are: it is most of the weights. What is
    kept of an earlier run needs no text encoder. Where the device's memory is too small for a pipeline, it goes on on the CPU.
    """
    noise, steps = draws.noise, len(draws.noise)
    seconds: dict[str, list[float]] = {}
    texts = encode_prompts(student, draws, seconds, progress)
    is_controlled = CONTROLNET in student.components and bool(draws.inputs)
    stock = Stock(student, ("transformer", "vae_decoder", *((CONTROLNET,) if is_controlled else ())), draws.compute)
    pipeline = stock.pipeline
    if draws.times:
        give_times(pipeline.scheduler, draws.times)
    for role, network in stock.networks.items():
        stock.time(network, seconds.setdefault(role, []))
    pictures: list[npt.NDArray[np.uint8]] = []
    latents: list[npt.NDArray[np.float32]] = []
    middle = INTERMEDIATE_TIMESTEP if steps == 2 else None  # the pipeline accepts one for two steps only
    side = student.latent_shape[1] * pipeline.vae_scale_factor

    def draw(i: int) -> npt.NDArray[np.uint8]:
        embeds, mask, start = (stock.place.compute.place(value) for value in (*texts[i], torch.from_numpy(noise[0, i : i + 1])))
        steered = stock.steer({name: value[i : i + 1] for name, value in draws.inputs.items()})
        with given_noise(noise[1:, i : i + 1]), _keep_latents(pipeline.vae, latents), steered:
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


def _make_own(student: Student, device: str) -> torch.nn.Module:
    """The autoencoder that the student came with, where its decoder was replaced."""
    own = dataclasses.replace(student, parts=dataclasses.replace(student.parts, decoder=None))
    is_random = find_files(own, "vae_decoder") is None
    return _make_network(load_student(own.source) if is_random else own, "vae_decoder", device)


def decode_own(student: Student, latents: npt.NDArray[np.float32], compute: Compute) -> npt.NDArray[np.uint8]:
    """Pictures uint8 [B, H, W, 3] of unit-variance latents [B, C, h, w], by the decoder that the student came with."""
    place = Place(compute, "the student's own decoder")
    vae: Any = place.attempt(lambda: _make_own(student, place.compute.device))
    pictures = []
    for row in torch.from_numpy(latents).split(1):

        def decode(row: torch.Tensor = row) -> torch.Tensor:
            with torch.no_grad(), place.compute.exact():
                image: torch.Tensor = vae.decode(place.compute.place(row) / vae.config.scaling_factor).sample
            return image

        pictures.append(to_uint8(place.attempt(decode, vae).cpu().numpy()))
    return np.concatenate(pictures)


def give_times(scheduler: Any, times: Sequence[float]) -> None:
    """Have a scheduler take these flow times, whatever the pipeline asks: its own `timesteps` ends in a TypeError (0.39)."""
    stock, angles = scheduler.set_timesteps, [*map(find_trigflow_time, times), 0.0]

    def set_timesteps(count: int, device: object = None, **_: Any) -> None:
        stock(count, timesteps=angles, device=device, max_timesteps=None, intermediate_timesteps=None)

    scheduler.set_timesteps = set_timesteps


class Stock:
    """The stock pipeline with the networks of these roles: on a device while its memory suffices, then on the CPU."""

    def __init__(self, student: Student, roles: Sequence[str], compute: Compute) -> None:
        self.place = Place(compute, f"PyTorch reference, {' and '.join(roles)}")
        self.pipeline = self.place.attempt(lambda: make_reference(student, roles, self.place.compute.device))
        self.pipeline.set_progress_bar_config(disable=True)
        self.networks: dict[str, torch.nn.Module] = {}  # of what is drawn with, by role
        if "vae_decoder" in roles:
            self.networks = {"transformer": self.pipeline.transformer, "vae_decoder": self.pipeline.vae.decoder}
        self._networks = [part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module)]
        self.controlnet = self.encoder = None
        if "vae_decoder" in roles and CONTROLNET not in roles:
            self.pipeline.vae.encoder = torch.nn.Identity()  # half of the autoencoder, and reads no picture here
        if CONTROLNET in roles:
            self.controlnet = self.place.attempt(lambda: _make_network(student, CONTROLNET, self.place.compute.device))
            is_own = student.parts.decoder is None  # another decoder comes without the encoder that the student was trained with
            vae: Any = self.pipeline.vae if is_own else _make_own(student, self.place.compute.device)
            self.encoder = vae
            self.networks |= {CONTROLNET: self.controlnet, "vae_encoder": vae.encoder}
            self._networks += [self.controlnet, vae]

    @contextlib.contextmanager
    def steer(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Iterator[None]:
        """Where a picture [1, 3, H, W] is given, hand the ControlNet's residuals to the transformer, as diffusers does."""
        controlnet, encoder = self.controlnet, self.encoder
        if controlnet is None or encoder is None:
            yield
            return
        compute, names = self.place.compute, FAMILY.chain.names
        image, scale = compute.place(torch.from_numpy(inputs[names.source])), float(inputs[names.scale][0])
        control = encoder.encode(image).latent * encoder.config.scaling_factor

        def add(_: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            read = {name: named[name] for name in ("encoder_hidden_states", "encoder_attention_mask", "timestep")}
            residuals = controlnet(*arguments, controlnet_cond=control, conditioning_scale=scale, return_dict=False, **read)[0]
            return arguments, named | {"controlnet_block_samples": tuple(residuals)}

        hook = self.pipeline.transformer.register_forward_pre_hook(add, with_kwargs=True, prepend=True)
        try:
            yield
        finally:
            hook.remove()

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


def encode_prompts(
    student: Student, draws: Draws, seconds: dict[str, list[float]], progress: Progress
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Embeddings and mask of each prompt, as the pipeline's call makes them, on the CPU."""
    instruction = inspect.signature(SanaSprintPipeline.__call__).parameters["complex_human_instruction"].default

    @functools.cache
    def load() -> Stock:
        stock = Stock(student, ("text_encoder",), draws.compute)
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
def given_noise(later: npt.NDArray[np.float32]) -> Iterator[None]:
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
