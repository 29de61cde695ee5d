"""Students with random weights: the published shapes at full size, and `tiny()` for tests.

A preset's weights are seeded handles, so a full-size student takes no memory until a tensor is pulled; they are bfloat16, as the
published ones, and made of one block of values a tensor, which is a twentieth of the time that 20 billion draws take. Qwen's
tokenizer cannot be made offline: both have the small chat tokenizer of this package, which makes the 34 ids of the template's
beginning that Qwen's makes. Shapes, not pictures, are what it is for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

from sprint_export.errors import unknown_choice
from sprint_export.nouns.student import Student
from sprint_export.students.chat_prompt import CHAT_TOKENIZER
from sprint_export.students.checkpoints import read_general_prompts
from sprint_export.students.networks.qwen2_5 import make_qwen2
from sprint_export.students.networks.qwen_image import make_qwen_image
from sprint_export.students.networks.qwen_image_vae import make_qwen_autoencoder
from sprint_export.students.twinflow_family import Preset
from sprint_export.students.twinflow_qwen.checkpoint import assemble
from sprint_export.students.twinflow_qwen.published import PRESETS, QWEN2_5_VL_7B, QWEN_IMAGE, QWEN_VAE
from sprint_export.weights import Handle, random_handle, repeated_handle


def load_preset(name: str, seed: int = 0) -> Student:
    """A full-size student with random weights.

    Raises:
        InputError: no preset has that name.
    """
    if name not in PRESETS:
        raise unknown_choice("random preset", name, PRESETS)
    return build_preset(PRESETS[name], f"random:{name}", seed, repeated_handle)


def tiny(seed: int = 0, **transformer: Any) -> Student:
    """A two-layer student of the real classes with random weights, for tests; `transformer` overrides its config."""
    config = QWEN_IMAGE | {
        "in_channels": 16,
        "out_channels": 4,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 3,
        "joint_attention_dim": 48,
        "axes_dims_rope": (4, 6, 6),
    }
    vae = QWEN_VAE | {
        "base_dim": 16,
        "z_dim": 4,
        "dim_mult": (1, 2),
        "num_res_blocks": 1,
        "temperal_downsample": (True,),
        "latents_mean": (0.1, -0.7, 0.4, 0.9),
        "latents_std": (1.8, 1.4, 1.3, 0.6),
    }
    text = QWEN2_5_VL_7B | {
        "vocab_size": 1024,
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_scaling": {"mrope_section": [2, 2, 2], "rope_type": "default", "type": "default"},
        "max_position_embeddings": 256,
    }
    return build_preset(Preset("tiny", config | transformer, vae, text, pixels=24, tokens=46), "tiny", seed)


def build_preset(preset: Preset, source: str, seed: int, make: Callable[..., Handle] = random_handle) -> Student:
    """Random handles for every weight of the preset's modules, scaled so that activations neither vanish nor explode.

    Args:
        preset: shapes.
        source: what the student is called.
        seed: of the weights.
        make: what makes a handle.
    """
    modules = {
        "text_encoder": make_qwen2(preset.text_encoder),
        "transformer": make_qwen_image(preset.transformer, has_second=True),
        "vae_decoder": make_qwen_autoencoder(preset.vae),
    }
    weights = {
        role: {name: _random(name, tuple(value.shape), seed, make) for name, value in module.state_dict().items()}
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


def _random(name: str, shape: tuple[int, ...], seed: int, make: Callable[..., Handle]) -> Handle:
    """Gains near 1, matmuls at 1 / sqrt(fan in), the rest small."""
    if name.endswith(".gamma") or ("norm" in name and len(shape) == 1 and name.endswith("weight")):
        return make(name, shape, 0.1, mean=1.0, seed=seed)
    if name.endswith("weight") and len(shape) > 1:
        fan_in = shape[1] * (shape[-2] * shape[-1] if len(shape) > 2 else 1)  # of convolutions in time one tap is read
        return make(name, shape, fan_in**-0.5, seed=seed)
    return make(name, shape, 0.05, seed=seed)
