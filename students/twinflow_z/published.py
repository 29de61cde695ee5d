"""Published shapes: the configs of TwinFlow-Z-Image-Turbo's networks, as data.

Sources: Tongyi-MAI/Z-Image-Turbo's config.json files, whose networks inclusionAI/TwinFlow-Z-Image-Turbo has, with a second time
embedder; counts of parameters in tests/students/twinflow_z/test_presets.py.
"""

from __future__ import annotations

from sprint_export.students.twinflow_family import Preset

Z_IMAGE = {
    "all_patch_size": (2,),
    "all_f_patch_size": (1,),
    "in_channels": 16,
    "dim": 3840,
    "n_layers": 30,
    "n_refiner_layers": 2,
    "n_heads": 30,
    "n_kv_heads": 30,
    "norm_eps": 1e-5,
    "qk_norm": True,
    "cap_feat_dim": 2560,
    "rope_theta": 256.0,
    "t_scale": 1000.0,
    "axes_dims": (32, 48, 48),
    "axes_lens": (1536, 512, 512),
}
QWEN3_4B = {
    "vocab_size": 151936,
    "hidden_size": 2560,
    "intermediate_size": 9728,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
FLUX_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "act_fn": "silu",
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "force_upcast": True,
    "mid_block_add_attention": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

# Qwen3's chat template of one user's message with thinking enabled. It stands here and not in the checkpoint: a chat template is
# a program, and none of a checkpoint's is run. TEMPLATE says the same to transformers.
BEFORE, BEHIND = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
TEMPLATE = (
    "{{- '<|im_start|>' + messages[0].role + '\\n' + messages[0].content + '<|im_end|>\\n' -}}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

PRESETS = {"twinflow-z-image-turbo": Preset("TwinFlow-Z-Image-Turbo 6.2B, 1024 px", Z_IMAGE, FLUX_VAE, QWEN3_4B)}
HUB_IDS = {"inclusionAI/TwinFlow-Z-Image-Turbo/TwinFlow-Z-Image-Turbo-exp": "on the Hugging Face hub, experimental"}
