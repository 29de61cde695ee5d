"""TwinFlow-Qwen-Image's three networks with their specs, once plan and prompt are fixed; folds: folds.py and networks/."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from sprint_export.nouns.student import Component, StepPlan, Student, TensorSpec
from sprint_export.students.family import replace_components
from sprint_export.students.free_sizes import free_specs
from sprint_export.students.networks.qwen2_5 import RowsEncoder, fold_rows
from sprint_export.students.networks.qwen_image import OneStepQwenImage, free_sides, tabulate_rotations
from sprint_export.students.networks.qwen_image_vae import LatentPainter, fold_painter
from sprint_export.students.twinflow_qwen.folds import fold_transformer
from sprint_export.weights import constant


def specialize(student: Student, plan: StepPlan) -> Student:
    """Fix the text's length and prefix, rebuild the transformer without its time path, wrap the decoder."""
    config, prompt = student.configs["transformer"], student.prompt
    _, height, width = student.latent_shape
    latents = TensorSpec("latents", "float32", (1, *student.latent_shape), "x_s, unit-variance noise first")
    embeds = TensorSpec("prompt_embeds", "float32", (1, prompt.keep, config["joint_attention_dim"]), "rows behind the template")
    mask = TensorSpec("prompt_mask", "int64", (1, prompt.keep), "1 for tokens of the prompt, 0 for padding")
    step = TensorSpec("step", "int64", (1,), "index into the plan's times")
    with torch.device("meta"):
        transformer = OneStepQwenImage(config, len(plan.times), (height, width), prompt.keep).eval()
    weights, notes = fold_transformer(student.components["transformer"], config, plan.times)
    tables = tabulate_rotations(config, transformer.sides, prompt.keep)
    denoiser = Component(
        "transformer",
        transformer,
        weights | {name: constant(table) for name, table in tables.items()},
        (latents, embeds, mask, *((step,) if len(plan.times) > 1 else ())),
        (TensorSpec("denoised", "float32", (1, *student.latent_shape), "x0 = x_s - s v"),),
        notes=(*notes, "range: both residual streams scaled down, norms compensated"),
    )
    decoder: Any = student.components["vae_decoder"]
    painting = LatentPainter(decoder.module).eval()
    scale = 2 ** len(student.configs["vae_decoder"]["temperal_downsample"])
    painter = Component(
        "vae_decoder",
        painting,
        fold_painter(decoder.weights, painting, student.configs["vae_decoder"]),
        (dataclasses.replace(latents, meaning="denoised latents, unit variance"),),
        (TensorSpec("image", "float32", (1, 3, scale * height, scale * width), "picture in [-1, 1], not clipped"),),
        notes=("one frame: convolutions in two dimensions", "layout: upsampling folded into 2x2 taps"),
    )
    encoder = dataclasses.replace(_encode_text(student), outputs=(embeds,))
    return dataclasses.replace(student, plan=plan, components={c.role: c for c in (encoder, denoiser, painter)})


def free_sizes(student: Student) -> Student:
    """A specialized student whose specs leave height and width free, in multiples of its patches; rotations are looked up."""
    config, transformer = student.configs["transformer"], student.components["transformer"]
    stock: Any = transformer.module
    module, weights = free_sides(stock, transformer.weights, config)
    freed = replace_components(student, dataclasses.replace(transformer, module=module, weights=weights))
    return free_specs(freed, config["patch_size"])


def _encode_text(student: Student) -> Component:
    text, prompt = student.components["text_encoder"], student.prompt
    held = len(prompt.prefix_ids)
    ids = TensorSpec("input_ids", "int64", (1, prompt.tokens - held), "the prompt in its template, padded right")
    notes = (
        "mask input dropped: causal, padded right",
        "range: residual stream scaled down, norms compensated",
        f"prefix: keys and values of {held} tokens are constants" if held else "prefix: all positions are computed",
    )
    module = RowsEncoder(text.module, prompt.tokens, prompt.keep, held).eval()
    weights = fold_rows(text.module, text.weights, prompt.tokens, prompt.prefix_ids)
    return Component("text_encoder", module, weights, (ids,), notes=notes)
