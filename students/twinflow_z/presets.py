"""Students with random weights: the published shapes at full size, and `tiny()` for tests.

A preset's weights are seeded handles, so a full-size student takes no memory until a tensor is pulled. Qwen3's tokenizer cannot
be made offline: both have the small chat tokenizer of this package, with Qwen's words of a template. Shapes, not pictures, are
what it is for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from sprint_export.errors import unknown_choice
from sprint_export.nouns.student import Student
from sprint_export.students.chat_prompt import CHAT_TOKENIZER
from sprint_export.students.checkpoints import read_general_prompts
from sprint_export.students.networks.autoencoder_kl import make_autoencoder_kl
from sprint_export.students.networks.qwen3 import make_qwen3
from sprint_export.students.twinflow_family import Preset
from sprint_export.students.twinflow_z.checkpoint import assemble, make_transformer
from sprint_export.students.twinflow_z.published import FLUX_VAE, PRESETS, QWEN3_4B, Z_IMAGE
from sprint_export.weights import Handle, random_handle

TINY_TOKENS = 80  # the template, and captions of one to three times 32 tokens; no multiple of 32


def load_preset(name: str, seed: int = 0) -> Student:
    """A full-size student with random weights.

    Raises:
        InputError: no preset has that name.
    """
    if name not in PRESETS:
        raise unknown_choice("random preset", name, PRESETS)
    return build_preset(PRESETS[name], f"random:{name}", seed)


def tiny(seed: int = 0, tokens: int = TINY_TOKENS, **transformer: Any) -> Student:
    """A two-layer student of the real classes with random weights, for tests; `transformer` overrides its config.

    Its pictures have 12 x 12 latents, 36 image tokens, which are padded to 64.
    """
    config = Z_IMAGE | {
        "in_channels": 4,
        "dim": 64,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 4,
        "n_kv_heads": 4,
        "cap_feat_dim": 48,
        "axes_dims": (8, 4, 4),
        "axes_lens": (128, 32, 32),
    }
    vae = FLUX_VAE | {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
    }
    text = QWEN3_4B | {
        "vocab_size": 1024,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
    }
    return build_preset(Preset("tiny", config | transformer, vae, text, pixels=24, tokens=tokens), "tiny", seed)


def build_preset(preset: Preset, source: str, seed: int) -> Student:
    """Random handles for every weight of the preset's modules, scaled so that activations neither vanish nor explode."""
    modules = {
        "text_encoder": make_qwen3(preset.text_encoder),
        "transformer": make_transformer(preset.transformer, has_second=True),
        "vae_decoder": make_autoencoder_kl(preset.vae),
    }
    weights = {
        role: {name: _random(name, tuple(value.shape), seed) for name, value in module.state_dict().items()}
        for role, module in modules.items()
    }
    configs = {"text_encoder": preset.text_encoder, "transformer": preset.transformer, "vae_decoder": preset.vae}
    key = json.dumps([source, seed, preset.tokens, preset.pixels, configs], default=dict, sort_keys=True)
    prompts = read_general_prompts()
    return dataclasses.replace(
        assemble(configs, weights, CHAT_TOKENIZER, source, preset.pixels, preset.tokens),
        fingerprint=hashlib.sha256(key.encode()).hexdigest(),
        licence="random weights, none needed",
        calibration_prompts=prompts,
        validation_prompts=prompts,
    )


def _random(name: str, shape: tuple[int, ...], seed: int) -> Handle:
    """Norm weights near 1, matmuls at 1 / sqrt(fan in), learnt tokens at 1, the rest small."""
    if name.endswith("_pad_token"):
        return random_handle(name, shape, 1.0, seed=seed)
    is_norm = "norm" in name or name == "cap_embedder.0.weight"
    if len(shape) == 1 and is_norm and name.endswith("weight"):
        return random_handle(name, shape, 0.1, mean=1.0, seed=seed)
    if name.endswith("weight") and len(shape) > 1:
        fan_in = shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
        return random_handle(name, shape, fan_in**-0.5, seed=seed)
    return random_handle(name, shape, 0.05, seed=seed)
