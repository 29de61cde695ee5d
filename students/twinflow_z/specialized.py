"""TwinFlow-Z's three networks with their specs, once plan and prompt are fixed; folds stand in folds.py and networks/.

What reads the text alone (cap_embedder and context_refiner, 5.9 % of the transformer) stands behind the text encoder in one
network that runs once a picture: `text_encoder.refiner.*`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from sprint_export.nouns.student import Component, StepPlan, Student, TensorSpec
from sprint_export.students.family import replace_components
from sprint_export.students.free_sizes import free_specs
from sprint_export.students.networks.autoencoder_kl import PixelDecoder, list_decoder_weights
from sprint_export.students.networks.qwen3 import RESIDUAL, PromptEncoder, fold_encoder
from sprint_export.students.networks.z_image import BLOCK, OneStepZImage, TextRefiner, free_sides, round_up
from sprint_export.students.networks.z_image_blocks import tabulate_rotations
from sprint_export.students.twinflow_z.folds import fold_refiner, fold_transformer
from sprint_export.weights import Handle, constant

PAD = "x_pad_token"  # where a picture's tokens are no multiple of 32


class CaptionEncoder(torch.nn.Module):
    """(input_ids int64 [B, T - held], prompt_mask int64 [B, keep]) -> prompt_embeds float32 [B, R, D]."""

    def __init__(self, model: PromptEncoder, refiner: TextRefiner) -> None:
        super().__init__()
        self.model, self.refiner = model, refiner

    def forward(self, input_ids: torch.Tensor, prompt_mask: torch.Tensor) -> torch.Tensor:
        """Language model, then what the transformer does with the text alone."""
        result: torch.Tensor = self.refiner(self.model(input_ids), prompt_mask)
        return result.float()


def specialize(student: Student, plan: StepPlan) -> Student:
    """Fix the text's length and prefix, rebuild the transformer without its time path, wrap the decoder."""
    config, prompt = student.configs["transformer"], student.prompt
    before, rows = prompt.tokens - prompt.keep, round_up(prompt.tokens)
    _, height, width = student.latent_shape
    side = 2 ** (len(student.configs["vae_decoder"]["block_out_channels"]) - 1)
    latents = TensorSpec("latents", "float32", (1, *student.latent_shape), "x_s, unit-variance noise first")
    embeds = TensorSpec("prompt_embeds", "float32", (1, rows, config["dim"]), "refined rows of the text, padded to 32")
    mask = TensorSpec("prompt_mask", "int64", (1, prompt.keep), "1 for tokens behind the template's beginning, 0 for padding")
    ids = TensorSpec(
        "input_ids", "int64", (1, prompt.tokens - len(prompt.prefix_ids)), "the prompt in its template, padded right"
    )
    step = TensorSpec("step", "int64", (1,), "index into the plan's times")
    with torch.device("meta"):
        transformer = OneStepZImage(config, len(plan.times), (height, width), (before, rows)).eval()
    weights, notes = fold_transformer(student.components["transformer"], config, plan.times)
    spare = {} if transformer.padding else {PAD: weights.pop(PAD)}
    encoder = dataclasses.replace(_encode_text(student, before, rows), inputs=(ids, mask), outputs=(embeds,))
    denoiser = Component(
        "transformer",
        transformer,
        weights | _tabulate_places(config, transformer.sides, rows),
        (latents, embeds, mask, *((step,) if len(plan.times) > 1 else ())),
        (TensorSpec("denoised", "float32", (1, *student.latent_shape), "x0 = x_s - s v"),),
        notes=(
            *notes,
            f"text: {rows} rows; what a caption padded to 32 leaves over is hidden, and carries where the picture starts",
        ),
        spare=spare,
    )
    decoder: Any = student.components["vae_decoder"]
    painting = PixelDecoder(decoder.module).eval()
    painter = Component(
        "vae_decoder",
        painting,
        list_decoder_weights(decoder.weights),
        (dataclasses.replace(latents, meaning="denoised latents, unit variance"),),
        (TensorSpec("image", "float32", (1, 3, side * height, side * width), "picture in [-1, 1], not clipped"),),
    )
    return dataclasses.replace(student, plan=plan, components={c.role: c for c in (encoder, denoiser, painter)})


def free_sizes(student: Student) -> Student:
    """A specialized student whose specs leave height and width free, in multiples of its patches; rotations are looked up."""
    config, transformer = student.configs["transformer"], student.components["transformer"]
    stock: Any = transformer.module
    module, weights = free_sides(stock, {**transformer.weights, **transformer.spare}, config)
    freed = replace_components(student, dataclasses.replace(transformer, module=module, weights=weights, spare={}))
    return free_specs(freed, config["all_patch_size"][0])


def _encode_text(student: Student, before: int, rows: int) -> Component:
    """Language model and text refiner as one network."""
    text, config, prompt = student.components["text_encoder"], student.configs["transformer"], student.prompt
    stock: Any = text.module
    held, layers = len(prompt.prefix_ids), len(stock.layers) - 1
    encoder = PromptEncoder(stock, layers, prompt.tokens, held)
    with torch.device("meta"):
        refiner = TextRefiner(config, before, rows, RESIDUAL)
    refined = fold_refiner(student.components["transformer"].weights, config)
    refined |= _name_tables(_place_text(rows), config)
    weights = {f"model.{k}": v for k, v in fold_encoder(stock, text.weights, layers, prompt.tokens, prompt.prefix_ids).items()}
    weights |= {f"refiner.{name}": handle for name, handle in refined.items()}
    notes = (
        f"text: {layers} of {layers + 1} layers, without the final norm (hidden_states[-2])",
        "mask of the language model dropped: causal, padded right",
        "text refiner: runs here, once a picture",
        "range: residual streams scaled down, norms compensated",
        f"prefix: keys, values and rows of {held} tokens are constants" if held else "prefix: all positions are computed",
    )
    return Component("text_encoder", CaptionEncoder(encoder, refiner).eval(), weights, notes=notes)


def _place_text(rows: int) -> torch.Tensor:
    """(1 + j, 0, 0) of text row j: int64 [R, 3]."""
    places = torch.zeros(rows, 3, dtype=torch.int64)
    places[:, 0] = torch.arange(1, rows + 1)
    return places


def _name_tables(places: torch.Tensor, config: Any, prefix: str = "") -> dict[str, Handle]:
    """Rotations [1, N, d / 2] of positions [N, 3]."""
    tables = tabulate_rotations(places, config["axes_dims"], config["rope_theta"])
    return {f"{prefix}{name}": constant(table[None]) for name, table in zip(("cos", "sin"), tables, strict=True)}


def _tabulate_places(config: Any, sides: tuple[int, int], rows: int) -> dict[str, Handle]:
    """Where text rows and image tokens are: the image's frame is a table over the number of text blocks before it."""
    frame = config["axes_dims"][0] // 2
    plane = torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), torch.arange(sides[0]), torch.arange(sides[1]))
    plane = torch.nn.functional.pad(plane, (0, 0, 0, round_up(len(plane)) - len(plane)))  # tokens of padding are at (0, 0, 0)
    starts = torch.zeros(1 + rows // BLOCK, 3, dtype=torch.int64)
    starts[:, 0] = BLOCK * torch.arange(len(starts)) + 1
    tables = _name_tables(_place_text(rows), config, "text_")
    for name, handle in _name_tables(plane, config).items():
        tables[name] = constant(handle.load()[..., frame:].contiguous())
    for name, handle in _name_tables(starts, config, "frame_").items():
        tables[name] = constant(handle.load()[0, :, :frame].contiguous())
    return tables
