"""Covered values of a TwinFlow-Z folder: its three networks' configs and its model index.

A key's values here are those that the exported networks implement as the stock classes do. The scheduler's settings are not read:
TwinFlow samples with its own times (students/twinflow_times.py), whatever the folder's scheduler says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderKL, ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF
from transformers import Qwen3Config

from sprint_export.errors import InputError
from sprint_export.students.checkpoints import Agreement, check_equal, check_said, complete_stock
from sprint_export.students.covered import (
    DIFFUSERS,
    FLAG,
    NULL,
    TEXT,
    Table,
    listed,
    number,
    one_of,
    whole,
)

Config = Mapping[str, Any]
WIDTH = whole(1, 1 << 20)
DEPTH = 1000
EPS = number(1e-30, 1.0)
LEVELS = 16
AXES = listed(whole(2, 1 << 12), 3)
FLOATS = one_of(None, "float32", "float16", "bfloat16")

TRANSFORMER: Table = DIFFUSERS | {
    # TwinFlow's own trainer saves its wrapper's name
    "_class_name": one_of("ZImageTransformer2DModel", "ZImageTransformer2DModelWrapper"),
    "all_f_patch_size": one_of([1], (1,)),
    "all_patch_size": one_of([2], (2,)),  # the stock pipeline asks for no other
    "axes_dims": AXES,
    "axes_lens": AXES,
    "cap_feat_dim": WIDTH,
    "dim": WIDTH,
    "in_channels": WIDTH,
    "n_heads": WIDTH,
    "n_kv_heads": WIDTH,
    "n_layers": whole(1, DEPTH),
    "n_refiner_layers": whole(0, DEPTH),
    "norm_eps": EPS,
    "qk_norm": FLAG,
    "rope_theta": number(1, 1e12),
    "siglip_feat_dim": NULL,
    "t_scale": one_of(1000.0),
}
TEXT_ENCODER: Table = {
    "_name_or_path": TEXT,
    "architectures": NULL | listed(one_of("Qwen3Model", "Qwen3ForCausalLM")),
    "attention_bias": FLAG,
    "attention_dropout": number(0, 1),
    "bos_token_id": NULL | whole(0, 1 << 30),
    "dtype": FLOATS,
    "eos_token_id": NULL | whole(0, 1 << 30) | listed(whole(0, 1 << 30)),
    "head_dim": WIDTH,
    "hidden_act": one_of("silu"),
    "hidden_size": WIDTH,
    "initializer_range": number(0, 1e3),
    "intermediate_size": WIDTH,
    "layer_types": listed(one_of("full_attention"), DEPTH),
    "max_position_embeddings": whole(1, 1 << 30),
    "max_window_layers": whole(0, DEPTH),
    "model_type": one_of("qwen3"),
    "num_attention_heads": WIDTH,
    "num_hidden_layers": whole(2, DEPTH),
    "num_key_value_heads": WIDTH,
    "pad_token_id": NULL | whole(0, 1 << 30),
    "rms_norm_eps": EPS,
    "rope_scaling": NULL,
    "rope_theta": number(1, 1e12),
    "sliding_window": NULL | whole(1, 1 << 30),  # not used where use_sliding_window is false
    "tie_word_embeddings": FLAG,
    "torch_dtype": FLOATS,
    "transformers_version": TEXT,
    "use_cache": FLAG,
    "use_sliding_window": one_of(False),
    "vocab_size": whole(1, 1 << 30),
}
VAE: Table = DIFFUSERS | {
    "_class_name": one_of("AutoencoderKL"),
    "act_fn": one_of("silu", "swish", "mish", "gelu", "relu"),
    "block_out_channels": listed(WIDTH, LEVELS),
    "down_block_types": listed(one_of("DownEncoderBlock2D"), LEVELS),
    "force_upcast": FLAG,
    "in_channels": one_of(3),
    "latent_channels": WIDTH,
    "latents_mean": NULL,
    "latents_std": NULL,
    "layers_per_block": whole(1, 64),
    "mid_block_add_attention": FLAG,
    "norm_num_groups": WIDTH,
    "out_channels": one_of(3),
    "sample_size": whole(1, 1 << 16),  # only how large a tile is, where pictures are cut into tiles
    "scaling_factor": number(1e-4, 1e4),
    "shift_factor": NULL | number(-1e4, 1e4),
    "up_block_types": listed(one_of("UpDecoderBlock2D"), LEVELS),
    "use_post_quant_conv": FLAG,
    "use_quant_conv": FLAG,
}
TABLES = {"text_encoder": TEXT_ENCODER, "transformer": TRANSFORMER, "vae_decoder": VAE}
CLASSES = {"transformer": ZImageTransformer2DModel, "vae_decoder": AutoencoderKL}
MODEL_INDEX: Table = DIFFUSERS | {
    "_class_name": one_of("ZImagePipeline"),
    "scheduler": one_of(["diffusers", "FlowMatchEulerDiscreteScheduler"]),
    "text_encoder": one_of(["transformers", "Qwen3Model"], ["transformers", "Qwen3ForCausalLM"]),
    "tokenizer": one_of(["transformers", "Qwen2Tokenizer"], ["transformers", "Qwen2TokenizerFast"]),
    "transformer": one_of(["diffusers", "ZImageTransformer2DModel"], ["diffusers", "ZImageTransformer2DModelWrapper"]),
    "vae": one_of(["diffusers", "AutoencoderKL"]),
}


def complete_config(role: str, file: str, config: Config) -> dict[str, Any]:
    """A network's config with what its stock class assumes for keys it lacks, once all values are covered.

    Raises:
        InputError: a value that is not covered.
    """
    table = TABLES[role]
    if role in CLASSES:
        return complete_stock(CLASSES[role], file, config, table)
    defaults = Qwen3Config().to_dict()
    check_said(file, config, defaults, table)
    kept = {key: value for key, value in defaults.items() if key in table and key != "layer_types"}
    return kept | dict(config)


def check_agreement(file: str, configs: Mapping[str, Config], tokens: int, sides: tuple[int, int]) -> None:
    """Whether what one network gives is what the next one takes, and all positions have a rotation.

    Args:
        file: the student's folder or name.
        configs: complete, by role.
        tokens: of the longest text.
        sides: height and width of the latents.

    Raises:
        InputError: two values that have to agree do not.
    """
    text, transformer, vae = (configs[role] for role in ("text_encoder", "transformer", "vae_decoder"))
    heads, (patch,), axes = transformer["n_heads"], transformer["all_patch_size"], transformer["axes_dims"]
    groups = text["num_attention_heads"] % text["num_key_value_heads"]
    start = -(-tokens // SEQ_MULTI_OF) * SEQ_MULTI_OF + 2
    agreements: tuple[Agreement, ...] = (
        ("transformer in_channels", transformer["in_channels"], vae["latent_channels"], "the vae's latent_channels"),
        ("transformer cap_feat_dim", transformer["cap_feat_dim"], text["hidden_size"], "the text encoder's hidden_size"),
        ("transformer n_kv_heads", transformer["n_kv_heads"], heads, "its n_heads"),
        ("transformer dim modulo n_heads", transformer["dim"] % heads, 0, "whole heads"),
        ("transformer axes_dims' sum", sum(axes), transformer["dim"] // heads, "the channels of a head"),
        ("transformer axes_dims modulo 2", max(size % 2 for size in axes), 0, "pairs of channels"),
        ("latent side modulo all_patch_size", max(side % patch for side in sides), 0, "whole patches"),
        ("vae blocks", len(vae["up_block_types"]), len(vae["block_out_channels"]), "as many as block_out_channels"),
        ("text encoder num_attention_heads modulo num_key_value_heads", groups, 0, "as many heads for each key"),
    )
    check_equal(file, agreements)
    for axis, needed in enumerate((start, *(side // patch for side in sides))):
        if len(axes) != 3 or transformer["axes_lens"][axis] < needed:
            raise InputError(
                f"{file}: transformer axes_lens={list(transformer['axes_lens'])} on axes_dims={list(axes)}; expected three axes, "
                f"of at least {start} (texts of {tokens} tokens), {sides[0] // patch} and {sides[1] // patch} (patches)"
            )
