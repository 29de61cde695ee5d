"""Covered values of a TwinFlow-Qwen-Image folder: its three networks' configs and its model index.

A key's values here are those that the exported networks implement as the stock classes do. Neither the scheduler's settings nor
those of the text encoder's eyes are read: TwinFlow samples with its own times, and a prompt has no picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel
from transformers import Qwen2_5_VLTextConfig

from sprint_export.students.checkpoints import Agreement, check_equal, check_said, complete_stock
from sprint_export.students.covered import (
    DIFFUSERS,
    FLAG,
    NULL,
    Table,
    Values,
    listed,
    mapping,
    number,
    one_of,
    whole,
)

Config = Mapping[str, Any]
WIDTH = whole(1, 1 << 20)
DEPTH, LEVELS = 1000, 16
ID = NULL | whole(0, 1 << 30)
FLOATS = one_of(None, "float32", "float16", "bfloat16")
ANY = Values("anything", lambda value: True)
MODELS = ("QwenImageTransformer2DModel", "QwenImageTransformer2DModelWrapper")  # the second is what TwinFlow's trainer saves
PLAIN = one_of("default", "mrope")
ROTARY = mapping(
    {"mrope_section": listed(WIDTH, 3), "rope_type": PLAIN, "type": PLAIN, "rope_theta": number(1, 1e12)}
)  # the same for text, whose three positions are one

TRANSFORMER: Table = DIFFUSERS | {
    "_class_name": one_of(*MODELS),
    "attention_head_dim": WIDTH,
    "axes_dims_rope": listed(whole(2, 1 << 12), 3),
    "guidance_embeds": one_of(False),
    "in_channels": WIDTH,
    "joint_attention_dim": WIDTH,
    "num_attention_heads": WIDTH,
    "num_layers": whole(2, DEPTH),
    "out_channels": WIDTH,
    "patch_size": one_of(2),  # the stock pipeline packs no others
    "pooled_projection_dim": ANY,  # older diffusers wrote it, and never read it
    "use_additional_t_cond": one_of(False),
    "use_layer3d_rope": one_of(False),
    "zero_cond_t": one_of(False),
}
TEXT_ENCODER: Table = {
    "attention_dropout": number(0, 1),
    "bos_token_id": ID,
    "dtype": FLOATS,
    "eos_token_id": ID | listed(whole(0, 1 << 30)),
    "hidden_act": one_of("silu"),
    "hidden_size": WIDTH,
    "initializer_range": number(0, 1e3),
    "intermediate_size": WIDTH,
    "layer_types": listed(one_of("full_attention"), DEPTH),
    "max_position_embeddings": whole(1, 1 << 30),
    "max_window_layers": whole(0, DEPTH),
    "num_attention_heads": WIDTH,
    "num_hidden_layers": whole(1, DEPTH),
    "num_key_value_heads": WIDTH,
    "rms_norm_eps": number(1e-30, 1),
    "rope_parameters": NULL | ROTARY,
    "rope_scaling": NULL | ROTARY,
    "rope_theta": number(1, 1e12),
    "sliding_window": NULL | whole(1, 1 << 30),  # not used where use_sliding_window is false
    "torch_dtype": FLOATS,
    "use_cache": FLAG,
    "use_sliding_window": one_of(False),
    "vocab_size": whole(1, 1 << 30),
}
UNREAD = (  # of Qwen2.5-VL's config: what its eyes and its head read, and names
    *("architectures", "model_type", "transformers_version", "_name_or_path", "tie_word_embeddings", "pad_token_id"),
    *("text_config", "vision_config", "image_token_id", "video_token_id"),
    *("vision_start_token_id", "vision_end_token_id", "vision_token_id"),
)
VAE: Table = DIFFUSERS | {
    "_class_name": one_of("AutoencoderKLQwenImage"),
    "attn_scales": one_of([], ()),
    "base_dim": WIDTH,
    "dim_mult": listed(whole(1, 64), LEVELS),
    "dropout": number(0, 1),
    "input_channels": one_of(3),
    "latents_mean": listed(number(-1e4, 1e4), 1 << 10),
    "latents_std": listed(number(1e-4, 1e4), 1 << 10),
    "num_res_blocks": whole(1, 64),
    "temperal_downsample": listed(FLAG, LEVELS),
    "z_dim": WIDTH,
}
TABLES = {"text_encoder": TEXT_ENCODER, "transformer": TRANSFORMER, "vae_decoder": VAE}
CLASSES = {"transformer": QwenImageTransformer2DModel, "vae_decoder": AutoencoderKLQwenImage}
MODEL_INDEX: Table = DIFFUSERS | {
    "_class_name": one_of("QwenImagePipeline"),
    "scheduler": one_of(["diffusers", "FlowMatchEulerDiscreteScheduler"]),
    "text_encoder": one_of(["transformers", "Qwen2_5_VLForConditionalGeneration"]),
    "tokenizer": one_of(["transformers", "Qwen2Tokenizer"], ["transformers", "Qwen2TokenizerFast"]),
    "transformer": one_of(*(["diffusers", name] for name in MODELS)),
    "vae": one_of(["diffusers", "AutoencoderKLQwenImage"]),
}


def complete_config(role: str, file: str, config: Config) -> dict[str, Any]:
    """A network's config with what its stock class assumes for keys it lacks, once all values are covered.

    The language model's settings stand in `text_config`, in the config itself (transformers before 4.52), or in both.

    Raises:
        InputError: a value that is not covered.
    """
    if role in CLASSES:
        return complete_stock(CLASSES[role], file, config, TABLES[role])
    inner = config.get("text_config")
    said = {k: v for k, v in config.items() if k not in UNREAD}
    said |= {k: v for k, v in (inner if isinstance(inner, Mapping) else {}).items() if k not in UNREAD}
    defaults = Qwen2_5_VLTextConfig().to_dict()
    check_said(file, said, defaults, TEXT_ENCODER)
    rotary = said.pop("rope_parameters", None) or {}
    unsaid = ("layer_types", "rope_scaling", "rope_parameters", "sliding_window", "dtype", "torch_dtype")
    kept = {key: value for key, value in defaults.items() if key in TEXT_ENCODER and key not in unsaid}
    return kept | ({"rope_theta": rotary["rope_theta"]} if "rope_theta" in rotary else {}) | said


def check_agreement(file: str, configs: Mapping[str, Config], side: int) -> None:
    """Whether what one network gives is what the next one takes.

    Args:
        file: the student's folder or name.
        configs: complete, by role.
        side: of the latents.

    Raises:
        InputError: two values that have to agree do not.
    """
    text, transformer, vae = (configs[role] for role in ("text_encoder", "transformer", "vae_decoder"))
    patch, channels, axes = transformer["patch_size"], vae["z_dim"], transformer["axes_dims_rope"]
    levels = len(vae["temperal_downsample"]) + 1
    heads, keys = text["num_attention_heads"], text["num_key_value_heads"]
    agreements: tuple[Agreement, ...] = (
        ("transformer in_channels", transformer["in_channels"], patch**2 * channels, "patches of the vae's z_dim"),
        ("transformer out_channels", transformer["out_channels"], channels, "the vae's z_dim"),
        ("transformer joint_attention_dim", transformer["joint_attention_dim"], text["hidden_size"], "the text encoder's width"),
        ("transformer axes_dims_rope's sum", sum(axes), transformer["attention_head_dim"], "the channels of a head"),
        ("transformer axes_dims_rope modulo 2", max(size % 2 for size in axes), 0, "pairs of channels"),
        ("number of transformer axes_dims_rope", len(axes), 3, "frame, row, column"),
        ("latent side modulo patch_size", side % patch, 0, "whole patches"),
        ("vae dim_mult", len(vae["dim_mult"]), levels, "one more than temperal_downsample"),
        ("number of vae latents_mean", len(vae["latents_mean"]), channels, "the vae's z_dim"),
        ("number of vae latents_std", len(vae["latents_std"]), channels, "the vae's z_dim"),
        ("text encoder hidden_size modulo num_attention_heads", text["hidden_size"] % heads, 0, "whole heads"),
        ("text encoder num_attention_heads modulo num_key_value_heads", heads % keys, 0, "as many heads for each key"),
    )
    check_equal(file, agreements)
