"""Students with random weights: published shapes at full size, and `tiny()` for tests.

A preset's weights are seeded handles, so a full-size student takes no memory until a tensor is pulled. Gemma's tokenizer cannot
be made offline: full-size presets have one of whole words and punctuation, which makes 197 tokens of the instruction prefix
(about as many as Gemma's), `tiny()` the embedded student's, which makes two of it. Shapes, not pictures, are what it is for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from sprint_export.errors import unknown_choice
from sprint_export.nouns.student import Student
from sprint_export.students.checkpoints import read_general_prompts
from sprint_export.students.family import Family
from sprint_export.students.networks.dc_ae import make_autoencoder
from sprint_export.students.networks.gemma2 import make_gemma2
from sprint_export.students.sana_sprint.checkpoint import assemble, attach_controlnet, make_stock
from sprint_export.students.sana_sprint.configs import complete_config
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.prompt import read_settings
from sprint_export.students.sana_sprint.published import DC_AE, PRESETS, Preset, control_config, transformer_config
from sprint_export.students.sana_sprint.two_times import embed_two_times
from sprint_export.weights import Handle, random_handle

SHORT_PREFIX = Path(__file__).parents[1] / "sprint_tiny" / "tokenizer"
LONG_PREFIX = Path(__file__).parents[1] / "words_tokenizer"


def load_preset(name: str, seed: int = 0) -> Student:
    """A full-size student with random weights.

    Raises:
        InputError: no preset has that name.
    """
    if name not in PRESETS:
        raise unknown_choice("random preset", name, PRESETS)
    return build_preset(PRESETS[name], f"random:{name}", seed, LONG_PREFIX)


def tiny(seed: int = 0, control_layers: int = 0, family: Family = FAMILY, **transformer: Any) -> Student:
    """A two-layer student of the real classes with random weights, for tests; `transformer` overrides its config.

    With `control_layers` it has a ControlNet of so many, fewer than the transformer's.
    """
    blocks = ("ResBlock", "EfficientViTBlock")
    vae = DC_AE | {
        "latent_channels": 8,
        "encoder_block_types": blocks,
        "decoder_block_types": blocks,
        "encoder_layers_per_block": (0, 1),
        "encoder_block_out_channels": (32, 64),
        "decoder_block_out_channels": (32, 64),
        "decoder_layers_per_block": (1, 1),
        "encoder_qkv_multiscales": ((), (5,)),
        "decoder_qkv_multiscales": ((), (5,)),
        "scaling_factor": 0.8,
    }
    text = {
        "vocab_size": 64,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
    }
    config = transformer_config(2, 2, 2, 32) | {"in_channels": 8, "out_channels": 8, "sample_size": 16, "caption_channels": 48}
    config |= transformer
    control = control_config(config, control_layers) if control_layers else None
    return build_preset(Preset("tiny", config, vae, text, control), "tiny", seed, family=family)


def build_preset(preset: Preset, source: str, seed: int, tokenizer: Path = SHORT_PREFIX, family: Family = FAMILY) -> Student:
    """Random handles for every weight of the preset's modules, scaled so that activations neither vanish nor explode."""
    transformer = make_stock("transformer", preset.transformer)
    is_twin = not preset.transformer["guidance_embeds"]
    modules = {
        "text_encoder": make_gemma2(preset.text_encoder),
        "transformer": embed_two_times(transformer, preset.transformer) if is_twin else transformer,
        "vae_decoder": make_autoencoder(preset.vae),
    }
    weights = {role: _randomize(module, role, seed) for role, module in modules.items()}
    configs = {"text_encoder": preset.text_encoder, "transformer": preset.transformer, "vae_decoder": preset.vae}
    if preset.controlnet is not None:
        configs["controlnet"] = preset.controlnet
    fingerprint = hashlib.sha256(json.dumps([source, seed, configs], default=dict, sort_keys=True).encode()).hexdigest()
    student = assemble(configs, weights, tokenizer, read_settings(tokenizer, tokenizer), source)
    if preset.controlnet is not None:
        file = f"{source}: controlnet"
        config = complete_config("controlnet", file, preset.controlnet)
        drawn = _randomize(make_stock("controlnet", config), "controlnet", seed)
        student = attach_controlnet(student, config, drawn, file)
    prompts = read_general_prompts()
    return dataclasses.replace(
        student,
        family=family.name,
        fingerprint=fingerprint,
        licence="random weights, none needed",
        calibration_prompts=prompts,
        validation_prompts=prompts,
    )


def _randomize(module: torch.nn.Module, role: str, seed: int) -> dict[str, Handle]:
    return {name: _random(name, tuple(value.shape), role, seed) for name, value in module.state_dict().items()}


def _random(name: str, shape: tuple[int, ...], role: str, seed: int) -> Handle:
    """Norm weights near 1 (Gemma-2 stores them minus 1), matmuls at 1 / sqrt(fan in), the rest small."""
    if len(shape) == 1 and "norm" in name and name.endswith("weight"):
        return random_handle(name, shape, 0.1, mean=0.0 if role == "text_encoder" else 1.0, seed=seed)
    if name.endswith("weight") and len(shape) > 1:
        fan_in = shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
        return random_handle(name, shape, fan_in**-0.5, seed=seed)
    return random_handle(name, shape, 0.05, seed=seed)
