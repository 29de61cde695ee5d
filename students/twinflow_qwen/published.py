"""Published shapes: the configs of TwinFlow-Qwen-Image's networks, as data.

Sources: Qwen/Qwen-Image's config.json files, whose networks inclusionAI/TwinFlow has, with a second time embedder; counts of
parameters in tests/students/twinflow_qwen/test_presets.py.
"""

from __future__ import annotations

from sprint_export.students.twinflow_family import Preset

QWEN_IMAGE = {
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 60,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 3584,
    "guidance_embeds": False,
    "axes_dims_rope": (16, 56, 56),
}
QWEN2_5_VL_7B = {
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default", "type": "default"},
    "max_position_embeddings": 128000,
}
QWEN_VAE = {
    "base_dim": 96,
    "z_dim": 16,
    "dim_mult": (1, 2, 4, 4),
    "num_res_blocks": 2,
    "attn_scales": (),
    "temperal_downsample": (False, True, True),
}

PRESETS = {"twinflow-qwen-image": Preset("TwinFlow-Qwen-Image 20.4B, 1024 px", QWEN_IMAGE, QWEN_VAE, QWEN2_5_VL_7B)}
HUB_IDS = {"inclusionAI/TwinFlow/TwinFlow-Qwen-Image-v1.0/TwinFlow-Qwen-Image": "on the Hugging Face hub, 41 GB"}
