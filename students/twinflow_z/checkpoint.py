"""A diffusers folder of TwinFlow-Z as a Student: configs now, weights when pulled; what is covered stands in configs.py.

The folder is a stock Z-Image pipeline's but for four tensors, `t_embedder_2.mlp.{0,2}.{weight,bias}`: TwinFlow's second time
embedder. The stock transformer gets a module of that name, so that names and shapes are checked as all others are.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel

from sprint_export.errors import InputError
from sprint_export.nouns.student import Component, Student
from sprint_export.prompt_reader import encode_text, open_tokenizer
from sprint_export.students.chat_prompt import ChatTemplate, plan_chat
from sprint_export.students.checkpoints import FOLDERS, Maker, build_module, check_depth, check_index, note_origin
from sprint_export.students.folder import check_files, read_json
from sprint_export.students.networks.autoencoder_kl import make_autoencoder_kl
from sprint_export.students.networks.qwen2_tokenizer import find_tokenizer
from sprint_export.students.networks.qwen3 import make_qwen3
from sprint_export.students.twinflow_family import PIXELS, TOKENS
from sprint_export.students.twinflow_z.configs import MODEL_INDEX, check_agreement, complete_config
from sprint_export.students.twinflow_z.family import FAMILY, SECOND_EMBEDDER
from sprint_export.students.twinflow_z.published import BEFORE, BEHIND
from sprint_export.weights import Handle, check_fit, open_safetensors

PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")


def load(folder: Path, source: str, revision: str | None, variant: str | None = None) -> Student:
    """Read a diffusers folder: configs, tokenizer, handles of the weights.

    Raises:
        InputError: a file is missing or damaged, a value is not covered, or a config does not fit its weights; the message names
            it.
    """
    configs = {role: read_json(folder / name / "config.json", folder) for role, (name, _) in FOLDERS.items()}
    check_files(folder, PARTS)
    index = folder / "model_index.json"
    check_index(str(index), read_json(index, folder), MODEL_INDEX)
    weights = {role: _read_weights(role, folder / name, stem, variant) for role, (name, stem) in FOLDERS.items()}
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
        tokens: of its longest text.
        folder: what it was read from, if anything.

    Raises:
        InputError: a config holds a value that is not covered, or does not fit its weights.
    """
    files = {role: f"{source}: {name}/config.json" for role, (name, _) in FOLDERS.items()}
    complete = {role: complete_config(role, files[role], configs[role]) for role in FOLDERS}
    for role, key, blocks in (("transformer", "n_layers", "layers"), ("text_encoder", "num_hidden_layers", "layers")):
        check_depth(files[role], key, complete[role], weights[role], blocks)
    side = pixels // 2 ** (len(complete["vae_decoder"]["block_out_channels"]) - 1)
    check_agreement(source, complete, tokens, (side, side))
    has_second = any(name.startswith(SECOND_EMBEDDER) for name in weights["transformer"])
    makers: dict[str, Maker] = {
        "text_encoder": make_qwen3,
        "transformer": partial(make_transformer, has_second=has_second),
        "vae_decoder": make_autoencoder_kl,
    }
    modules = {role: build_module(make, role, files[role], complete[role]) for role, make in makers.items()}
    for role, module in modules.items():
        _check_network(role, module, weights[role], f"{source}: {FOLDERS[role][0]}")
    settings = read_json(tokenizer / "tokenizer_config.json", tokenizer if folder is None else folder)
    found = find_tokenizer(tokenizer, tokenizer if folder is None else folder)
    reader = open_tokenizer(found / "tokenizer.json")  # whose mask leaves the template's beginning out: that is always there
    template = ChatTemplate(BEFORE, BEHIND, len(encode_text(reader, BEFORE).ids))
    return Student(
        family=FAMILY.name,
        source=source,
        revision=None,
        fingerprint="",
        components={role: Component(role, modules[role], weights[role]) for role in FAMILY.chain.roles},
        chain=FAMILY.chain,
        prompt=plan_chat(found, settings, complete["text_encoder"]["vocab_size"], template, tokens),
        tokenizer=found,
        latent_shape=(complete["transformer"]["in_channels"], side, side),
        configs=complete,
        licence="",
    )


def make_transformer(config: Mapping[str, Any], has_second: bool) -> ZImageTransformer2DModel:
    """The stock denoiser on `meta`, with a second time embedder or, as a LoRA's student has it, without."""
    with torch.device("meta"):
        transformer = ZImageTransformer2DModel.from_config(dict(config)).eval()
    if has_second:
        transformer.add_module(SECOND_EMBEDDER.rstrip("."), copy.deepcopy(transformer.t_embedder))
    return transformer


def _check_network(role: str, module: torch.nn.Module, weights: Mapping[str, Handle], where: str) -> None:
    """Whether weights fit; an autoencoder may come without its encoder, which is never drawn with."""
    if role == "vae_decoder" and not any(name.startswith("encoder.") for name in weights):
        module = copy.deepcopy(module)
        for name in ("encoder", "quant_conv"):
            setattr(module, name, None)
    check_fit(module, weights, where)


def _read_weights(role: str, folder: Path, stem: str, variant: str | None) -> dict[str, Handle]:
    handles = open_safetensors(folder, stem, variant, says_format=role == "text_encoder")
    if role != "text_encoder":
        return dict(handles)
    named = {name: handle for name, handle in handles.items() if name != "lm_head.weight"}  # of a whole language model
    short = {name.removeprefix("model."): handle for name, handle in named.items()}
    if len(short) < len(named):
        raise InputError(
            f"{folder}: some weights are there twice, with and without 'model.' in their names; expected one of them"
        )
    return short
