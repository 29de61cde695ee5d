"""Folders of TwinFlow's students as they are published: stock class names, tensors of the second embedder, vocabulary, merges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from sprint_export.nouns.student import Student
from sprint_export.students.chat_prompt import CHAT_TOKENIZER
from sprint_export.students.checkpoints import FOLDERS
from sprint_export.weights import materialize

QWEN_INDEX = {
    "_class_name": "QwenImagePipeline",
    "_diffusers_version": "0.36.0",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "transformer": ["diffusers", "QwenImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKLQwenImage"],
}
VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 48, "patch_size": 4}
Z_INDEX = {
    "_class_name": "ZImagePipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "Qwen3Model"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "transformer": ["diffusers", "ZImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
Z_CLASSES = {"transformer": "ZImageTransformer2DModel", "vae_decoder": "AutoencoderKL"}


def write_qwen(student: Student, folder: Path) -> Path:
    """A student of TwinFlow-Qwen with real weights."""
    networks: dict[str, Any] = {role: materialize(c.module, c.weights) for role, c in student.components.items()}
    networks["transformer"].save_pretrained(folder / "transformer")
    networks["vae_decoder"].save_pretrained(folder / "vae")
    text = Qwen2_5_VLConfig(**student.configs["text_encoder"], vision_config=VISION)
    with torch.device("meta"):
        whole = Qwen2_5_VLForConditionalGeneration(text)
    whole.to_empty(device="cpu")
    for value in whole.state_dict().values():
        value.zero_()
    whole.model.language_model.load_state_dict(networks["text_encoder"].state_dict())
    whole.save_pretrained(folder / "text_encoder")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    shutil.copytree(CHAT_TOKENIZER, folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(QWEN_INDEX))
    return folder


def write_z(student: Student, folder: Path) -> Path:
    """A pipeline folder of its weights, as published."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps(Z_INDEX))
    for role, (name, stem) in FOLDERS.items():
        (folder / name).mkdir()
        config = dict(student.configs[role]) | (
            {"_class_name": Z_CLASSES[role]} if role in Z_CLASSES else {"model_type": "qwen3"}
        )
        (folder / name / "config.json").write_text(json.dumps(config))
        values = {key: handle.load() for key, handle in student.components[role].weights.items()}
        save_file(values, folder / name / f"{stem}.safetensors", {"format": "pt"})
    shutil.copytree(CHAT_TOKENIZER, folder / "tokenizer")
    FlowMatchEulerDiscreteScheduler().save_pretrained(folder / "scheduler")
    return folder
