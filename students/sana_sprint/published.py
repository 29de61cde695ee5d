"""Published shapes: the configs of SANA-Sprint's networks, as data. Standard library only, so listing them loads no torch.

Sources: the hub's config.json of Sana_Sprint_0.6B_1024px_diffusers and mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers, and
diffusers' scripts/convert_sana_to_diffusers.py for the 1.6B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_BLOCKS = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
_SCALES: tuple[tuple[int, ...], ...] = ((), (), (), (5,), (5,), (5,))
DC_AE = {  # mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers
    "in_channels": 3,
    "latent_channels": 32,
    "attention_head_dim": 32,
    "encoder_block_types": _BLOCKS,
    "decoder_block_types": _BLOCKS,
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024),
    "encoder_layers_per_block": (2, 2, 2, 3, 3, 3),
    "decoder_layers_per_block": (3,) * 6,
    "encoder_qkv_multiscales": _SCALES,
    "decoder_qkv_multiscales": _SCALES,
    "upsample_block_type": "interpolate",
    "downsample_block_type": "Conv",
    "decoder_norm_types": "rms_norm",
    "decoder_act_fns": "silu",
    "scaling_factor": 0.41407,
}
GEMMA_2_2B = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "query_pre_attn_scalar": 256,
}


def transformer_config(heads: int, layers: int, cross_heads: int, cross_dim: int, **other: Any) -> dict[str, Any]:
    """A SANA-Sprint transformer's config with its published defaults; `other` overrides them."""
    return {
        "in_channels": 32,
        "out_channels": 32,
        "num_attention_heads": heads,
        "attention_head_dim": 32,
        "num_layers": layers,
        "num_cross_attention_heads": cross_heads,
        "cross_attention_head_dim": cross_dim,
        "cross_attention_dim": heads * 32,
        "caption_channels": 2304,
        "mlp_ratio": 2.5,
        "attention_bias": False,
        "sample_size": 32,
        "patch_size": 1,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "interpolation_scale": None,
        "guidance_embeds": True,
        "guidance_embeds_scale": 0.1,
        "qk_norm": "rms_norm_across_heads",
        "timestep_scale": 1.0,
    } | other


@dataclass(frozen=True)
class Preset:
    """Configs of the networks; of a ControlNet where there is one."""

    title: str
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    controlnet: Mapping[str, Any] | None = None


def control_config(transformer: Mapping[str, Any], layers: int = 7) -> dict[str, Any]:
    """The config of a ControlNet for a transformer: its blocks, without guidance and without norms of queries and keys."""
    other = ("num_layers", "guidance_embeds", "guidance_embeds_scale", "qk_norm", "timestep_scale")
    return {key: value for key, value in transformer.items() if key not in other} | {"num_layers": layers}


_SMALL, _LARGE = transformer_config(36, 28, 16, 72), transformer_config(70, 20, 20, 112)
PRESETS = {
    "sana-sprint-0.6b": Preset("SANA-Sprint 0.6B, 1024 px", _SMALL, DC_AE, GEMMA_2_2B),
    "sana-sprint-1.6b": Preset("SANA-Sprint 1.6B, 1024 px", _LARGE, DC_AE, GEMMA_2_2B),
    "sana-sprint-0.6b-controlnet": Preset(
        "SANA-Sprint 0.6B with a ControlNet of 7 blocks, 1024 px", _SMALL, DC_AE, GEMMA_2_2B, control_config(_SMALL)
    ),
    "sana-sprint-1.6b-controlnet": Preset(
        "SANA-Sprint 1.6B with a ControlNet of 7 blocks, 1024 px", _LARGE, DC_AE, GEMMA_2_2B, control_config(_LARGE)
    ),
}
HUB_IDS = dict.fromkeys(
    ("Efficient-Large-Model/Sana_Sprint_0.6B_1024px_diffusers", "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers"),
    "on the Hugging Face hub",
)
COMPLETED_BY = {  # what NVlabs' and hustvl's .pth come without, and where their configs take it from
    "vae": "mit-han-lab/dc-ae-f32c32-sana-1.1-diffusers",
    "text_encoder": "Efficient-Large-Model/gemma-2-2b-it",
}
