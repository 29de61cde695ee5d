"""Covered values of a SANA-Sprint folder: its three networks' configs, its scheduler and its model index.

A key's values here are those that the exported networks implement as the stock classes do; test_covered_values.py
flips every key to values of every type and compares pictures with diffusers'. docs/decisions/0016-covered-values.md says why the
rest is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import AutoencoderDC, SanaControlNetModel, SanaTransformer2DModel, SCMScheduler
from transformers import Gemma2Config

from sprint_export.errors import InputError, RefusedError
from sprint_export.students.checkpoints import Agreement, check_equal, check_said, complete_stock
from sprint_export.students.covered import (
    DIFFUSERS,
    FLAG,
    NULL,
    TEXT,
    Table,
    check_values,
    default_values,
    listed,
    mapping,
    number,
    one_of,
    show,
    whole,
)

Config = Mapping[str, Any]
WIDTH = whole(1, 1 << 20)  # channels, rows, columns of a weight; the weights' own shapes say the rest
DEPTH = 1000
LONGEST_SIDE = 256  # of latents; 8192 px of a 32-fold decoder
EPS = number(1e-30, 1.0)
SCALED = mapping({"rope_type": one_of("default", "linear"), "type": one_of("default", "linear"), "factor": number(1, 1e6)})
ROTARY = mapping({"rope_type": one_of("default", "linear"), "rope_theta": number(1, 1e12), "factor": number(1, 1e6)})
BLOCK = one_of("ResBlock", "EfficientViTBlock")
ACTIVATION = one_of("silu", "relu", "gelu", "mish", "swish")
NORM = one_of("rms_norm", "batch_norm")
LEVELS = 16
ODD = one_of(*range(1, 32, 2))

TRANSFORMER: Table = DIFFUSERS | {
    "_class_name": one_of("SanaTransformer2DModel"),
    "attention_bias": FLAG,
    "attention_head_dim": WIDTH,
    "caption_channels": WIDTH,
    "cross_attention_dim": WIDTH,
    "cross_attention_head_dim": WIDTH,
    "dropout": number(0, 1),
    "guidance_embeds": one_of(True),
    "guidance_embeds_scale": number(-1e3, 1e3),
    "in_channels": WIDTH,
    "interpolation_scale": NULL | number(1e-3, 1e3),
    "mlp_ratio": number(0.1, 64),
    "norm_elementwise_affine": FLAG,
    "norm_eps": EPS,
    "num_attention_heads": WIDTH,
    "num_cross_attention_heads": WIDTH,
    "num_layers": whole(1, DEPTH),
    "out_channels": NULL | WIDTH,
    "patch_size": whole(1, 16),
    "qk_norm": one_of(None, "rms_norm_across_heads"),
    "sample_size": whole(1, LONGEST_SIDE),
    "timestep_scale": number(-1e6, 1e6),  # diffusers 0.39 to 0.42 register it and never read it
}
TEXT_ENCODER: Table = {
    "_attn_implementation_autoset": FLAG,  # transformers 4.46 to 4.51 wrote it; attention is eager here in any case
    "_name_or_path": TEXT,
    "architectures": NULL | listed(one_of("Gemma2Model", "Gemma2ForCausalLM")),
    "attention_bias": FLAG,
    "attention_dropout": number(0, 1),
    "attn_logit_softcapping": NULL | number(1e-3, 1e6),
    "bos_token_id": NULL | whole(0, 1 << 30),
    "cache_implementation": NULL | TEXT,
    "dtype": one_of(None, "float32", "float16", "bfloat16"),
    "eos_token_id": NULL | whole(0, 1 << 30) | listed(whole(0, 1 << 30)),
    "final_logit_softcapping": NULL | number(1e-3, 1e6),
    "head_dim": WIDTH,
    "hidden_act": one_of("gelu_pytorch_tanh"),
    "hidden_activation": one_of("gelu_pytorch_tanh", "gelu", "silu", "relu"),
    "hidden_size": WIDTH,
    "initializer_range": number(0, 1e3),
    "intermediate_size": WIDTH,
    "layer_types": listed(one_of("sliding_attention", "full_attention"), DEPTH),
    "max_position_embeddings": whole(1, 1 << 30),
    "model_type": one_of("gemma2"),
    "num_attention_heads": WIDTH,
    "num_hidden_layers": whole(1, DEPTH),
    "num_key_value_heads": WIDTH,
    "pad_token_id": NULL | whole(0, 1 << 30),
    "query_pre_attn_scalar": number(1e-3, 1e6),
    "rms_norm_eps": EPS,
    "rope_parameters": NULL | ROTARY,
    "rope_scaling": NULL | SCALED,
    "rope_theta": number(1, 1e12),
    "sliding_window": whole(1, 1 << 30),
    "tie_word_embeddings": FLAG,
    "torch_dtype": one_of(None, "float32", "float16", "bfloat16"),
    "transformers_version": TEXT,
    "use_bidirectional_attention": one_of(None, False),
    "use_cache": FLAG,
    "vocab_size": whole(1, 1 << 30),
}
VAE: Table = DIFFUSERS | {
    "_class_name": one_of("AutoencoderDC"),
    "attention_head_dim": WIDTH,
    "decoder_act_fns": ACTIVATION | listed(ACTIVATION, LEVELS),
    "decoder_block_out_channels": listed(WIDTH, LEVELS),
    "decoder_block_types": BLOCK | listed(BLOCK, LEVELS),
    "decoder_conv_act_fn": ACTIVATION,
    "decoder_in_shortcut": FLAG,
    "decoder_layers_per_block": listed(whole(0, 64), LEVELS),
    "decoder_norm_types": NORM | listed(NORM, LEVELS),
    "decoder_qkv_multiscales": listed(listed(ODD), LEVELS),
    "downsample_block_type": one_of("conv", "Conv", "pixel_unshuffle"),
    "encoder_block_out_channels": listed(WIDTH, LEVELS),
    "encoder_block_types": BLOCK | listed(BLOCK, LEVELS),
    "encoder_layers_per_block": listed(whole(0, 64), LEVELS),
    "encoder_out_shortcut": FLAG,
    "encoder_qkv_multiscales": listed(listed(ODD), LEVELS),
    "in_channels": one_of(3),
    "latent_channels": WIDTH,
    "scaling_factor": number(1e-4, 1e4),
    "upsample_block_type": one_of("interpolate", "pixel_shuffle"),
}
_ONLY_DENOISERS = ("guidance_embeds", "guidance_embeds_scale", "qk_norm", "timestep_scale")
CONTROLNET: Table = {
    **{key: values for key, values in TRANSFORMER.items() if key not in _ONLY_DENOISERS},
    "_class_name": one_of("SanaControlNetModel"),
}
TABLES = {"text_encoder": TEXT_ENCODER, "transformer": TRANSFORMER, "vae_decoder": VAE, "controlnet": CONTROLNET}
CLASSES = {"transformer": SanaTransformer2DModel, "vae_decoder": AutoencoderDC, "controlnet": SanaControlNetModel}

SCHEDULER = {"_class_name": "SCMScheduler", "num_train_timesteps": 1000, "prediction_type": "trigflow", "sigma_data": 0.5}
TOKENIZERS = ("GemmaTokenizerFast", "GemmaTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend")
MODEL_INDEX: Table = DIFFUSERS | {
    "_class_name": one_of("SanaSprintPipeline"),
    "scheduler": one_of(["diffusers", "SCMScheduler"]),
    "text_encoder": one_of(["transformers", "Gemma2Model"]),
    "tokenizer": one_of(*(["transformers", name] for name in TOKENIZERS)),
    "transformer": one_of(["diffusers", "SanaTransformer2DModel"]),
    "vae": one_of(["diffusers", "AutoencoderDC"]),
}
OPTIONAL = {"controlnet": one_of(["diffusers", "SanaControlNetModel"])}


def check_scheduler(file: str, config: Config) -> None:
    """Whether a scheduler is the one whose sampler every bundle holds.

    Raises:
        InputError: it is another, or has other settings.
    """
    table = DIFFUSERS | {key: one_of(value) for key, value in SCHEDULER.items()}
    check_values(file, default_values(SCMScheduler) | dict(config), table)


def complete_config(role: str, file: str, config: Config, is_twin: bool = False) -> dict[str, Any]:
    """A network's config with what its stock class assumes for keys it lacks, once all values are covered.

    A transformer embeds either guidance or, where it `is_twin`, a second time.

    Raises:
        InputError: a value that is not covered, or settings of rotary embeddings that the installed transformers does not read.
    """
    table = TABLES[role]
    if role != "text_encoder":
        defaults = default_values(CLASSES[role])
        has_guidance = (defaults | dict(config)).get("guidance_embeds")
        if role == "transformer" and not (has_guidance or is_twin):
            raise InputError(
                f"{file} has guidance_embeds={has_guidance!r}; expected true: this is a multi-step SANA, not a SANA-Sprint "
                "student. Use a *_Sprint_* checkpoint"
            )
        if is_twin and role == "transformer":
            table = {**table, "guidance_embeds": one_of(False)}
        return complete_stock(CLASSES[role], file, config, table)
    defaults = Gemma2Config().to_dict()
    check_said(file, config, defaults, table)
    _check_rotary(file, config, defaults)
    kept = {
        key: value for key, value in defaults.items() if key in table and key != "layer_types" and not key.startswith("rope_")
    }
    return kept | dict(config)


def _check_rotary(file: str, config: Config, defaults: Config) -> None:
    """transformers 5 writes `rope_parameters`, which transformers 4 does not read, in the place of two keys, which it does."""
    new = config.get("rope_parameters") or {}
    kind = new.get("rope_type", "default")
    for old, found, known in (
        ("rope_theta", new.get("rope_theta"), config.get("rope_theta", defaults.get("rope_theta"))),
        ("rope_scaling", None if kind == "default" else dict(new), config.get("rope_scaling")),
    ):
        is_double = "rope_parameters" in defaults and old in config
        if found is not None and found != known and ("rope_parameters" not in defaults or is_double):
            raise InputError(
                f"{file}: rope_parameters={show(new)} says another {old} than {show(known)}, which the stock classes "
                "installed here would take; expected both to agree, or transformers 5 and rope_parameters alone"
            )


def check_agreement(file: str, configs: Mapping[str, Config]) -> None:
    """Whether what one network gives is what the next one takes.

    Args:
        file: the student's folder or name.
        configs: complete, by role.

    Raises:
        InputError: two values that have to agree do not.
    """
    text, transformer, vae = (configs[role] for role in ("text_encoder", "transformer", "vae_decoder"))
    width = transformer["num_attention_heads"] * transformer["attention_head_dim"]
    channels, side = transformer["in_channels"], transformer["sample_size"]
    heads = text["num_attention_heads"], text["num_key_value_heads"]
    agreements: tuple[Agreement, ...] = (
        ("transformer in_channels", channels, vae["latent_channels"], "the vae's latent_channels"),
        ("transformer out_channels", transformer["out_channels"] or channels, channels, "its in_channels"),
        ("transformer caption_channels", transformer["caption_channels"], text["hidden_size"], "the text encoder's hidden_size"),
        ("transformer cross_attention_dim", transformer["cross_attention_dim"], width, "its width, heads times their size"),
        ("transformer sample_size modulo patch_size", side % transformer["patch_size"], 0, "whole patches"),
        ("text encoder num_attention_heads modulo num_key_value_heads", heads[0] % heads[1], 0, "as many heads for each key"),
    )
    check_equal(file, agreements)


def check_control(file: str, config: Config, transformer: Config) -> None:
    """Whether a transformer can take what a ControlNet gives, and the ControlNet read what the transformer does.

    Raises:
        InputError: two values that have to agree do not, or there are more residuals than blocks that take one.
    """

    def width(each: Config) -> int:
        wide: int = each["num_attention_heads"] * each["attention_head_dim"]
        return wide

    keys = ("in_channels", "caption_channels", "sample_size", "patch_size")
    pairs = {key: (config[key], transformer[key]) for key in keys} | {
        "width, heads times their size,": (width(config), width(transformer)),
        "cross_attention_dim": (config["cross_attention_dim"], width(config)),
    }
    for key, (found, wanted) in pairs.items():
        if found != wanted:
            raise InputError(
                f"{file}: {key} is {found}, expected {wanted}, the transformer's; this is another student's ControlNet"
            )
    most = transformer["num_layers"] - 1
    if config["num_layers"] > most:
        raise InputError(
            f"{file}: num_layers={config['num_layers']}: expected at most {most}, one fewer than the transformer's "
            f"{transformer['num_layers']} blocks: none is left behind which the last residual would be added"
        )


def check_decoder(file: str, config: Config, own: Config) -> None:
    """Whether another decoder reads the latents that the student's own does.

    Raises:
        RefusedError: it has other channels, another compression, or another scale.
    """
    for what, found, wanted in (
        ("latent_channels", config["latent_channels"], own["latent_channels"]),
        *[("pixels a latent", *(2 ** (len(each["decoder_block_out_channels"]) - 1) for each in (config, own)))],
        ("scaling_factor", config["scaling_factor"], own["scaling_factor"]),
    ):
        if found != wanted:
            raise RefusedError(
                f"--decoder: {file}: {what} is {found}, the student's own decoder has {wanted}: another latent space"
            )


def check_side(file: str, configs: Mapping[str, Config]) -> None:
    """Whether the stock pipeline draws pictures of the student's own size.

    Raises:
        InputError: it does not.
    """
    size = configs["transformer"]["sample_size"]
    pixels = size * 2 ** (len(configs["vae_decoder"]["decoder_block_out_channels"]) - 1)
    if pixels % 32:
        raise InputError(
            f"{file}: transformer sample_size={size} makes pictures of {pixels} x {pixels}; expected a multiple of 32 pixels: "
            "the stock pipeline draws no others"
        )
