"""SANA-Sprint's networks with their specs, once plan and prompt are fixed; folds stand in folds.py and networks/."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from sprint_export.errors import RefusedError
from sprint_export.nouns.student import CHANNELS_FIRST, Component, StepPlan, Student, TensorSpec
from sprint_export.students.family import replace_components
from sprint_export.students.free_sizes import free_specs
from sprint_export.students.networks.dc_ae import LatentDecoder, fold_decoder
from sprint_export.students.networks.dc_ae_blocks import FORMS as DECODER_FORMS
from sprint_export.students.networks.dc_ae_encoder import LatentEncoder, fold_encoder
from sprint_export.students.networks.forms import count_forms
from sprint_export.students.networks.gemma2 import (
    PromptEncoder,
    bias_handles,
    count_unused,
    fold_text_range,
    rotation_handles,
)
from sprint_export.students.networks.gemma2_prefix import PrefixCache
from sprint_export.students.sana_sprint.channels_first import to_channels_first
from sprint_export.students.sana_sprint.controlnet import ControlledSana, ControlResiduals, fold_control
from sprint_export.students.sana_sprint.folds import fold_transformer
from sprint_export.students.sana_sprint.transformer import FORMS, OneStepSana


def specialize(student: Student, plan: StepPlan) -> Student:
    """Fix the text encoder's length and prefix, wrap decoder and encoder, and rebuild the others without their time path."""
    made = [
        encode_prompts(student.components["text_encoder"], student),
        *([_encode_pictures(student)] if "vae_encoder" in student.components else []),
        *([_control(student, plan)] if "controlnet" in student.components else []),
        _denoise(student, plan),
        _decode(student),
    ]
    return dataclasses.replace(student, plan=plan, components={c.role: c for c in made})


def _list_specs(student: Student) -> dict[str, TensorSpec]:
    """Values between the networks, by name."""
    keep, hidden, own = student.prompt.keep, student.configs["text_encoder"]["hidden_size"], student.latent_shape
    side = own[1] * 2 ** (len(student.configs["vae_decoder"]["decoder_block_out_channels"]) - 1)
    specs = [
        TensorSpec("latents", "float32", (1, *own), "x_s, unit-variance noise first"),
        TensorSpec("prompt_embeds", "float32", (1, keep, hidden), "kept rows of the text encoder"),
        TensorSpec("prompt_mask", "int64", (1, keep), "1 for tokens of the prompt, 0 for padding"),
        TensorSpec("step", "int64", (1,), "index into the plan's times"),
        TensorSpec("denoised", "float32", (1, *own), "x0 = x_s - s v"),
        TensorSpec("image", "float32", (1, 3, side, side), "picture in [-1, 1], not clipped"),
        TensorSpec("source_image", "float32", (1, 3, side, side), "picture in [-1, 1], to be encoded"),
        TensorSpec("source_latents", "float32", (1, *own), "its latents, unit variance"),
        TensorSpec("control_scale", "float32", (1,), "how strongly the control picture steers; 1 as trained"),
    ]
    if "controlnet" in student.configs:
        channels = _width(student.configs["controlnet"]) * student.configs["controlnet"]["num_layers"]
        sides = (own[1] // student.configs["transformer"]["patch_size"],) * 2
        specs.append(
            TensorSpec("control_residuals", "float32", (1, channels, *sides), "added behind blocks, one after the other")
        )
    return {spec.name: spec for spec in specs}


def _width(config: Mapping[str, Any]) -> int:
    width: int = config["num_attention_heads"] * config["attention_head_dim"]
    return width


def _denoise(student: Student, plan: StepPlan) -> Component:
    specs, config = _list_specs(student), student.configs["transformer"]
    is_controlled = "controlnet" in student.configs
    with torch.device("meta"):
        transformer = (ControlledSana if is_controlled else OneStepSana)(config, len(plan.times)).eval()
    weights, notes = fold_transformer(student, plan)
    names = ("latents", "prompt_embeds", "prompt_mask", *(("control_residuals",) if is_controlled else ()))
    read = tuple(specs[name] for name in (*names, *(("step",) if len(plan.times) > 1 else ())))
    forms = count_forms(transformer, FORMS)
    return Component("transformer", transformer, weights, read, (specs["denoised"],), forms=forms, notes=notes)


def _control(student: Student, plan: StepPlan) -> Component:
    specs, config = _list_specs(student), student.configs["controlnet"]
    with torch.device("meta"):
        network = ControlResiduals(config, len(plan.times)).eval()
    weights, notes = fold_control(student.components["controlnet"], config, plan, student.latent_shape)
    names = ("latents", "source_latents", "prompt_embeds", "prompt_mask", "control_scale")
    read = tuple(specs[name] for name in (*names, *(("step",) if len(plan.times) > 1 else ())))
    forms = count_forms(network, FORMS)
    return Component("controlnet", network, weights, read, (specs["control_residuals"],), forms=forms, notes=notes)


def _encode_pictures(student: Student) -> Component:
    specs, stock = _list_specs(student), student.components["vae_encoder"]
    network = LatentEncoder(stock.module).eval()
    weights, notes = fold_encoder(stock.weights, network, tuple(map(int, specs["source_image"].shape[1:])))
    read, written = (specs["source_image"],), (specs["source_latents"],)
    return Component("vae_encoder", network, weights, read, written, forms=count_forms(network, DECODER_FORMS), notes=notes)


def _decode(student: Student) -> Component:
    specs, stock = _list_specs(student), student.components["vae_decoder"]
    network = LatentDecoder(stock.module).eval()
    weights, notes = fold_decoder(stock.weights, network, student.latent_shape)
    read = (dataclasses.replace(specs["latents"], meaning="denoised latents, unit variance"),)
    forms = count_forms(network, DECODER_FORMS)
    return Component("vae_decoder", network, weights, read, (specs["image"],), forms=forms, notes=notes)


def encode_prompts(text: Component, student: Student) -> Component:
    """The text encoder for the student's PromptPlan; where that holds a prefix, computing the positions after it only."""
    stock: Any = text.module
    config, prompt = stock.config, student.prompt
    held = len(prompt.prefix_ids)
    module = PromptEncoder(stock, prompt.tokens, prompt.keep, is_cached=held > 0).eval()
    named = dict(text.weights) | fold_text_range(text.weights, config.num_hidden_layers)
    named |= rotation_handles(stock.rotary_emb, prompt.tokens, held)
    weights = {f"model.{name}": handle for name, handle in named.items()}
    unused = count_unused(prompt.tokens) if held else 0
    weights |= bias_handles(config.sliding_window, prompt.tokens, held, unused)
    if held:
        weights |= PrefixCache(stock, text.weights, prompt.prefix_ids, unused).handles()
    meaning = "the prompt after the prefix, padded right" if held else "prefix + prompt, padded right"
    ids = TensorSpec("input_ids", "int64", (1, prompt.tokens - held), meaning)
    cache = f"prefix: keys and values of {held} tokens are constants, {prompt.keep - 1} are computed"
    notes = (
        "attention: eager (applies the soft cap)",
        "mask input dropped: causal, padded right",
        "range: residual stream and post-norm inputs scaled down, norms compensated",
        cache if held else f"prefix: all {prompt.tokens} positions are computed",
    )
    return Component("text_encoder", module, weights, (ids,), (_list_specs(student)["prompt_embeds"],), notes=notes)


def check_free_sizes(student: Student) -> None:
    """Whether the student's networks can draw more than one size of picture.

    Raises:
        RefusedError: its transformer adds a table of positions, which has one size.
    """
    config = student.configs["transformer"]
    if config["interpolation_scale"] is not None:
        side = config["sample_size"] // config["patch_size"]
        raise RefusedError(
            f"--dynamic: the transformer of {student.source} adds a table of {side} x {side} positions "
            f"(interpolation_scale={config['interpolation_scale']}), so it draws one size only; leave --dynamic out, or "
            "take a student without a table, as SANA-Sprint's published ones are"
        )


def free_sizes(student: Student) -> Student:
    """A specialized student whose specs leave height and width of latents and pictures free, in multiples of its patches.

    Raises:
        RefusedError: as `check_free_sizes`.
    """
    check_free_sizes(student)
    return free_specs(student, student.configs["transformer"]["patch_size"])


def arrange_channels_first(student: Student) -> Student:
    """A specialized student with its transformer laid out for Apple's Neural Engine; the other networks stay."""
    transformer = to_channels_first(student.components["transformer"], student.configs["transformer"])
    return dataclasses.replace(replace_components(student, transformer), layout=CHANNELS_FIRST)
