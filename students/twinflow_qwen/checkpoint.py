"""A diffusers folder of TwinFlow-Qwen-Image as a Student: configs now, weights when pulled; what is covered stands in configs.py.

The folder is a stock Qwen-Image pipeline's but for four tensors, `time_text_embed_2.timestep_embedder.linear_{1,2}.*`: TwinFlow's
second time embedder. The stock transformer gets a module of that name, so that names and shapes are checked as all
others are. A folder without them is a plain Qwen-Image, which takes tens of steps, unless a LoRA makes a student of it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import QwenImagePipeline

from sprint_export.errors import InputError
from sprint_export.nouns.parts import NO_PARTS, Parts
from sprint_export.nouns.student import Component, Student
from sprint_export.students.chat_prompt import ChatTemplate, plan_chat
from sprint_export.students.checkpoints import FOLDERS, Maker, build_module, check_depth, check_index, note_origin
from sprint_export.students.folder import check_files, has_tensor, read_json
from sprint_export.students.networks.qwen2_5 import make_qwen2, name_weights
from sprint_export.students.networks.qwen2_tokenizer import find_tokenizer
from sprint_export.students.networks.qwen_image import make_qwen_image
from sprint_export.students.networks.qwen_image_vae import make_qwen_autoencoder
from sprint_export.students.twinflow_family import PIXELS, TOKENS
from sprint_export.students.twinflow_qwen.configs import MODEL_INDEX, check_agreement, complete_config
from sprint_export.students.twinflow_qwen.family import FAMILY, SECOND_EMBEDDER
from sprint_export.weights import Handle, check_fit, open_safetensors

PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
MAKERS: dict[str, Maker] = {"text_encoder": make_qwen2, "transformer": make_qwen_image, "vae_decoder": make_qwen_autoencoder}


def load(folder: Path, source: str, revision: str | None, variant: str | None = None, parts: Parts = NO_PARTS) -> Student:
    """Read a diffusers folder: configs, tokenizer, handles of the weights.

    Raises:
        InputError: a file is missing or damaged, a value is not covered, a config does not fit its weights, or it is no student;
            the message names it.
    """
    configs = {role: read_json(folder / name / "config.json", folder) for role, (name, _) in FOLDERS.items()}
    check_files(folder, PARTS)
    index = folder / "model_index.json"
    check_index(str(index), read_json(index, folder), MODEL_INDEX)
    if not parts.lora and not has_tensor(folder, f"transformer/{SECOND_EMBEDDER}"):
        raise InputError(
            f"{folder}: transformer has no {SECOND_EMBEDDER}*, TwinFlow's second time embedder: a plain Qwen-Image, which takes "
            f"tens of steps; expected a TwinFlow student, e.g. {next(iter(FAMILY.hub_ids))}, or its LoRA beside this with --lora"
        )
    weights = {role: open_safetensors(folder / name, stem, variant) for role, (name, stem) in FOLDERS.items()}
    weights["text_encoder"] = name_weights(weights["text_encoder"])
    student = assemble(configs, weights, folder / "tokenizer", source, folder=folder)
    return note_origin(student, folder, revision, variant)


def assemble(
    configs: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Mapping[str, Handle]],
    tokenizer: Path,
    source: str,
    pixels: int = PIXELS,
    tokens: int = TOKENS,
    folder: Path | None = None,
) -> Student:
    """Join configs and weight handles to a student of stock modules on `meta`.

    Args:
        configs: by role.
        weights: by role, named as the stock modules name them.
        tokenizer: the folder.
        source: how the student was asked for.
        pixels: of a side of its pictures.
        tokens: of the longest prompt, what of the template stands behind it among them.
        folder: what it was read from, if anything.

    Raises:
        InputError: a config holds a value that is not covered, or does not fit its weights.
    """
    files = {role: f"{source}: {name}/config.json" for role, (name, _) in FOLDERS.items()}
    complete = {role: complete_config(role, files[role], configs[role]) for role in FOLDERS}
    depths = ("transformer", "num_layers", "transformer_blocks"), ("text_encoder", "num_hidden_layers", "layers")
    for role, key, blocks in depths:
        check_depth(files[role], key, complete[role], weights[role], blocks)
    side = pixels // 2 ** len(complete["vae_decoder"]["temperal_downsample"])
    check_agreement(source, complete, side)
    has_second = any(name.startswith(SECOND_EMBEDDER) for name in weights["transformer"])
    makers = MAKERS | {"transformer": partial(make_qwen_image, has_second=has_second)}
    modules = {role: build_module(makers[role], role, files[role], complete[role]) for role in FOLDERS}
    for role, module in modules.items():
        _check_network(role, module, weights[role], f"{source}: {FOLDERS[role][0]}")
    root = tokenizer if folder is None else folder
    settings, found = read_json(tokenizer / "tokenizer_config.json", root), find_tokenizer(tokenizer, root)
    template = read_template()
    vocabulary = complete["text_encoder"]["vocab_size"]
    return Student(
        family=FAMILY.name,
        source=source,
        revision=None,
        fingerprint="",
        components={role: Component(role, modules[role], weights[role]) for role in FAMILY.chain.roles},
        chain=FAMILY.chain,
        prompt=plan_chat(found, settings, vocabulary, template, template.dropped + tokens),
        tokenizer=found,
        latent_shape=(complete["vae_decoder"]["z_dim"], side, side),
        configs=complete,
        licence="",
    )


def read_template() -> ChatTemplate:
    """The installed pipeline's own template, and how many of its ids no row is kept of."""
    stock = QwenImagePipeline(None, None, None, None, None)
    before, behind = stock.prompt_template_encode.split("{}")
    return ChatTemplate(before, behind, stock.prompt_template_encode_start_idx)


def _check_network(role: str, module: torch.nn.Module, weights: Mapping[str, Handle], where: str) -> None:
    """Whether weights fit; an autoencoder may come without its encoder, which is never drawn with."""
    if role == "vae_decoder" and not any(name.startswith("encoder.") for name in weights):
        module = copy.deepcopy(module)
        for name in ("encoder", "quant_conv"):
            setattr(module, name, None)
    check_fit(module, weights, where)
