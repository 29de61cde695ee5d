"""A diffusers folder of SANA-Sprint as a Student: configs now, weights when pulled; what is covered stands in configs.py."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.student import Component, Student
from sprint_export.students.checkpoints import FOLDERS, Maker, build_module, check_depth, check_index, note_origin
from sprint_export.students.family import Family, replace_components
from sprint_export.students.folder import (
    check_file,
    check_files,
    find_part,
    list_hashed,
    read_json,
)
from sprint_export.students.networks.dc_ae import make_autoencoder
from sprint_export.students.networks.gemma2 import make_gemma2
from sprint_export.students.sana_sprint.configs import (
    CLASSES,
    MODEL_INDEX,
    OPTIONAL,
    check_agreement,
    check_control,
    check_decoder,
    check_scheduler,
    check_side,
    complete_config,
)
from sprint_export.students.sana_sprint.family import FAMILY
from sprint_export.students.sana_sprint.folds import position_table
from sprint_export.students.sana_sprint.prompt import plan_prompt, read_settings
from sprint_export.students.sana_sprint.two_times import HELD, embed_two_times, rename_second
from sprint_export.weights import Handle, check_fit, constant, open_safetensors

COMPUTED = ("rotary_emb.", "patch_embed.pos_embed")  # buffers that no checkpoint stores
CONTROLNET = "controlnet"  # a folder beside the others
PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")


def load(folder: Path, source: str, revision: str | None, variant: str | None = None, family: Family = FAMILY) -> Student:
    """Read a diffusers folder: configs, tokenizer, handles of the weights.

    Raises:
        InputError: a file is missing or damaged, a value is not covered, or a config does not fit its weights; the message names
            it.
    """
    configs = {role: read_json(folder / name / "config.json", folder) for role, (name, _) in FOLDERS.items()}
    check_files(folder, PARTS)
    index = read_json(folder / "model_index.json", folder)
    check_index(str(folder / "model_index.json"), index, MODEL_INDEX, OPTIONAL)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    check_scheduler(str(scheduler), read_json(scheduler, folder))
    weights = {role: read_weights(role, folder / name, stem, variant) for role, (name, stem) in FOLDERS.items()}
    settings = read_settings(folder / "tokenizer", folder)
    student = assemble(configs, weights, folder / "tokenizer", settings, source)
    check_side(source, student.configs)
    if (folder / CONTROLNET).is_dir():
        student = add_controlnet(student, folder / CONTROLNET)
    named = {**student.configs, "tokenizer": {"class": index["tokenizer"][1]}}
    return dataclasses.replace(note_origin(student, folder, revision, variant), family=family.name, configs=named)


def add_encoder(student: Student) -> Student:
    """The student with the network that encodes pictures, of its own autoencoder.

    Raises:
        RefusedError: the autoencoder came without its encoder.
    """
    stock = student.components["vae_decoder"]
    if not any(name.startswith("encoder.") for name in stock.weights):
        raise RefusedError(f"{student.source}: its vae has no encoder, so no picture can be given; take one that has both halves")
    return _add_network(student, dataclasses.replace(stock, role="vae_encoder"), student.configs["vae_decoder"])


def replace_decoder(student: Student, folder: Path) -> Student:
    """The student with the decoder of another AutoencoderDC; what encodes pictures stays its own.

    Raises:
        InputError: a file is missing or damaged, a value is not covered, or the config does not fit its weights.
        RefusedError: the decoder is of another latent space.
    """
    part = find_part(folder, "vae")
    file, own = part / "config.json", student.configs["vae_decoder"]
    config = complete_config("vae_decoder", str(file), read_json(file, part))
    check_decoder(str(file), config, own)
    for path in list_hashed(part):
        check_file(path, folder)
    module = _build("vae_decoder", str(file), config)
    read = read_weights("vae_decoder", part, FOLDERS["vae_decoder"][1], None)
    _check_network("vae_decoder", module, read, str(part))
    weights = {name: handle for name, handle in read.items() if name.startswith("decoder.")}
    held = {name: handle for name, handle in student.components["vae_decoder"].weights.items() if name.startswith("encoder.")}
    if held and config["attention_head_dim"] == own["attention_head_dim"]:
        encoding = {key: value for key, value in own.items() if key.startswith(("encoder_", "downsample_"))}
        config, weights = config | encoding, weights | held
        module = _build("vae_decoder", str(file), config)
    replaced = replace_components(student, Component("vae_decoder", module, weights))
    return dataclasses.replace(replaced, configs={**student.configs, "vae_decoder": config})


def add_controlnet(student: Student, folder: Path) -> Student:
    """The student with the ControlNet of a folder, as SanaControlNetModel writes it, and the encoder that it reads through.

    Raises:
        InputError: a file is missing or damaged, a value is not covered, or the ControlNet is not one of this student's.
        RefusedError: the student's autoencoder came without its encoder.
    """
    file = folder / "config.json"
    config = complete_config("controlnet", str(file), read_json(file, folder))
    for path in list_hashed(folder):
        check_file(path, folder)
    weights = read_weights("controlnet", folder, "diffusion_pytorch_model", None)
    return attach_controlnet(student, config, weights, str(file))


def attach_controlnet(student: Student, config: Mapping[str, Any], weights: Mapping[str, Handle], file: str) -> Student:
    """The student with a ControlNet of these weights; `config` is complete, `file` what errors call it; Raises as above."""
    check_depth(file, "num_layers", config, weights, "transformer_blocks")
    check_control(file, config, student.configs["transformer"])
    module, held = _build("controlnet", file, config), dict(weights)
    if config["interpolation_scale"] is not None:
        held["patch_embed.pos_embed"] = constant(position_table(config))
    check_fit(module, held, file, ignore=COMPUTED)
    return _add_network(add_encoder(student), Component("controlnet", module, held), config)


def _add_network(student: Student, component: Component, config: Mapping[str, Any]) -> Student:
    """The student with a network more, in the order of its family's chain."""
    components = {**student.components, component.role: component}
    chain = FAMILY.chain.keep(components)
    ordered = {role: components[role] for role in chain.roles}
    return dataclasses.replace(student, components=ordered, chain=chain, configs={**student.configs, component.role: config})


def assemble(
    configs: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Mapping[str, Handle]],
    tokenizer: Path,
    settings: Mapping[str, Any],
    source: str,
) -> Student:
    """Join configs and weight handles to a student of stock modules on `meta`; fingerprint and licence are the caller's.

    Raises:
        InputError: a config holds a value that is not covered, or does not fit its weights.
    """
    files = {role: f"{source}: {name}/config.json" for role, (name, _) in FOLDERS.items()}
    is_twin = any(name.startswith(HELD) for name in weights["transformer"])
    complete = {role: complete_config(role, files[role], configs[role], is_twin) for role in FOLDERS}
    check_depth(files["transformer"], "num_layers", complete["transformer"], weights["transformer"], "transformer_blocks")
    check_depth(files["text_encoder"], "num_hidden_layers", complete["text_encoder"], weights["text_encoder"], "layers")
    check_agreement(source, complete)
    modules = {role: _build(role, files[role], complete[role]) for role in FOLDERS}
    if is_twin:
        modules["transformer"] = embed_two_times(modules["transformer"], complete["transformer"])
    held = {role: dict(handles) for role, handles in weights.items()}
    if complete["transformer"]["interpolation_scale"] is not None:
        held["transformer"]["patch_embed.pos_embed"] = constant(position_table(complete["transformer"]))
    for role, module in modules.items():
        _check_network(role, module, held[role], f"{source}: {FOLDERS[role][0]}")
    size = complete["transformer"]["sample_size"]
    return Student(
        family=FAMILY.name,
        source=source,
        revision=None,
        fingerprint="",
        components={role: Component(role, modules[role], held[role]) for role in FOLDERS},
        chain=FAMILY.chain.keep(FOLDERS),
        prompt=plan_prompt(tokenizer, settings, complete["text_encoder"]["vocab_size"]),
        tokenizer=tokenizer,
        latent_shape=(complete["transformer"]["in_channels"], size, size),
        configs=complete,
        licence="",
    )


def _build(role: str, file: str, config: Mapping[str, Any]) -> torch.nn.Module:
    makers: dict[str, Maker] = {"text_encoder": make_gemma2, "vae_decoder": make_autoencoder}
    return build_module(makers.get(role, functools.partial(make_stock, role)), role, file, config)


def _check_network(role: str, module: torch.nn.Module, weights: Mapping[str, Handle], where: str) -> None:
    """Whether weights fit; an autoencoder may come without its encoder, which is never drawn with."""
    decoder = {name: handle for name, handle in weights.items() if name.startswith("decoder.")}
    if role == "vae_decoder" and len(decoder) == len(weights):
        inner = {name.removeprefix("decoder."): handle for name, handle in decoder.items()}
        check_fit(module.get_submodule("decoder"), inner, where)
    else:
        check_fit(module, weights, where, ignore=COMPUTED)


def make_stock(role: str, config: Mapping[str, Any]) -> torch.nn.Module:
    """The stock network of a role on `meta`."""
    with torch.device("meta"):
        network: torch.nn.Module = CLASSES[role].from_config(dict(config)).eval()
    return network


def read_weights(role: str, folder: Path, stem: str, variant: str | None) -> dict[str, Handle]:
    """Handles of a network's weights under the names of its stock class.

    Raises:
        InputError: there are none, they are damaged, or the same is there under two names.
    """
    handles = open_safetensors(folder, stem, variant, says_format=role == "text_encoder")
    if role != "text_encoder":
        return rename_second({name: handle for name, handle in handles.items() if name != "patch_embed.pos_embed"})
    named = {name: handle for name, handle in handles.items() if not name.endswith("rotary_emb.inv_freq")}
    short = {name.removeprefix("model."): handle for name, handle in named.items()}
    if len(short) < len(named):
        raise InputError(
            f"{folder}: some weights are there twice, with and without 'model.' in their names; expected one of them"
        )
    return short
