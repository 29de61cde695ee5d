"""SANA-Sprint and TBCM students (same network and sampler): SanaTransformer2DModel, Gemma-2, DC-AE.

Loads a diffusers folder lazily (configs now, weights when pulled), specializes the transformer to its fixed steps, and
says what it covers (sana_configs.py), how prompts become ids (sana_prompt.py) and what the reference is (sana_reference.py).
Sources: arXiv 2503.09641 (SANA-Sprint), 2511.20410 (TBCM), diffusers pipeline_sana_sprint.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import SanaTransformer2DModel

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.student import CHANNELS_FIRST, ROLES, Component, StepPlan, Student, TensorSpec
from sprint_export.sizes import SIDES, name_axis
from sprint_export.students.covered import show
from sprint_export.students.folder import check_files, fingerprint_folder, read_json, read_licence, read_prompts
from sprint_export.students.networks.dc_ae import LatentDecoder, fold_decoder, make_autoencoder
from sprint_export.students.networks.dc_ae_blocks import FORMS as DECODER_FORMS
from sprint_export.students.networks.forms import count_forms
from sprint_export.students.networks.gemma2 import (
    PromptEncoder,
    bias_handles,
    count_unused,
    fold_text_range,
    make_gemma2,
    rotation_handles,
)
from sprint_export.students.networks.gemma2_prefix import PrefixCache
from sprint_export.students.sana_sprint.channels_first import to_channels_first
from sprint_export.students.sana_sprint.configs import (
    check_agreement,
    check_depth,
    check_index,
    check_scheduler,
    check_side,
    complete_config,
)
from sprint_export.students.sana_sprint.folds import fold_transformer, position_table
from sprint_export.students.sana_sprint.prompt import check_tokenizer as check_tokenizer
from sprint_export.students.sana_sprint.prompt import plan_prompt, read_settings
from sprint_export.students.sana_sprint.reference import FOLDERS
from sprint_export.students.sana_sprint.reference import make_reference as make_reference
from sprint_export.students.sana_sprint.smooth import TEXT_LAYERS as TEXT_LAYERS
from sprint_export.students.sana_sprint.smooth import list_migrations as list_migrations
from sprint_export.students.sana_sprint.transformer import FORMS, OneStepSana
from sprint_export.weights import Handle, check_fit, choose_variant, constant, find_weights, open_safetensors

FAMILY = "sana_sprint"
PIPELINES = ("SanaSprintPipeline",)
GENERAL_PROMPTS = Path(__file__).parents[1] / "prompts.txt"
COMPUTED = ("rotary_emb.", "patch_embed.pos_embed")  # buffers that no checkpoint stores
PARTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")


def load(folder: Path, source: str, revision: str | None, variant: str | None = None) -> Student:
    """Read a diffusers folder: configs, tokenizer, handles of the weights.

    Raises:
        InputError: a file is missing or damaged, a value is not covered, or a config does not fit its weights; the message names
            it.
    """
    configs = {role: read_json(folder / name / "config.json", folder) for role, (name, _) in FOLDERS.items()}
    check_files(folder, PARTS)
    index = read_json(folder / "model_index.json", folder)
    check_index(str(folder / "model_index.json"), index)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    check_scheduler(str(scheduler), read_json(scheduler, folder))
    weights = {role: _read_weights(role, folder / name, stem, variant) for role, (name, stem) in FOLDERS.items()}
    fingerprint = fingerprint_folder(folder, _list_other_variants(folder, variant))
    settings = read_settings(folder / "tokenizer", folder)
    student = assemble(configs, weights, folder / "tokenizer", settings, source, revision, fingerprint, read_licence(folder))
    check_side(source, student.configs)
    own = {use: folder / f"{use}_prompts.txt" for use in ("calibration", "validation")}
    prompts = {use: read_prompts(file, folder) if file.exists() else read_general_prompts() for use, file in own.items()}
    return dataclasses.replace(
        student,
        folder=folder,
        variant=variant,
        configs={**student.configs, "tokenizer": {"class": index["tokenizer"][1]}},
        calibration_prompts=prompts["calibration"],
        validation_prompts=prompts["validation"],
    )


def _list_other_variants(folder: Path, variant: str | None) -> set[Path]:
    """Weights that lie beside the chosen ones and are not read, so that a fingerprint tells variants apart."""
    unused: set[Path] = set()
    for name, stem in FOLDERS.values():
        chosen = choose_variant(folder / name, stem, variant)
        mark = f".{chosen}" if chosen else ""
        used = {*find_weights(folder / name, stem, variant), folder / name / f"{stem}.safetensors.index{mark}.json"}
        unused |= {path for path in (folder / name).glob(f"{stem}*") if ".safetensors" in path.name and path not in used}
    return unused


def read_general_prompts() -> tuple[str, ...]:
    """The prompts of this package, for students that come without."""
    return read_prompts(GENERAL_PROMPTS, GENERAL_PROMPTS.parent)


def assemble(
    configs: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Mapping[str, Handle]],
    tokenizer: Path,
    settings: Mapping[str, Any],
    source: str,
    revision: str | None,
    fingerprint: str,
    licence: str,
) -> Student:
    """Join configs and weight handles to a student of stock modules on `meta`.

    Raises:
        InputError: a config holds a value that is not covered, or does not fit its weights.
    """
    files = {role: f"{source}: {name}/config.json" for role, (name, _) in FOLDERS.items()}
    complete = {role: complete_config(role, files[role], configs[role]) for role in FOLDERS}
    check_depth(files["transformer"], "num_layers", complete["transformer"], weights["transformer"], "transformer_blocks")
    check_depth(files["text_encoder"], "num_hidden_layers", complete["text_encoder"], weights["text_encoder"], "layers")
    check_agreement(source, complete)
    modules = {role: _build(role, files[role], complete[role]) for role in FOLDERS}
    held = {role: dict(handles) for role, handles in weights.items()}
    if complete["transformer"]["interpolation_scale"] is not None:
        held["transformer"]["patch_embed.pos_embed"] = constant(position_table(complete["transformer"]))
    for role, module in modules.items():
        _check_network(role, module, held[role], f"{source}: {FOLDERS[role][0]}")
    size = complete["transformer"]["sample_size"]
    return Student(
        family=FAMILY,
        source=source,
        revision=revision,
        fingerprint=fingerprint,
        components={role: Component(role, modules[role], held[role]) for role in ROLES},
        prompt=plan_prompt(tokenizer, settings, complete["text_encoder"]["vocab_size"]),
        tokenizer=tokenizer,
        latent_shape=(complete["transformer"]["in_channels"], size, size),
        configs=complete,
        licence=licence,
        make_reference=make_reference,
    )


def _build(role: str, file: str, config: Mapping[str, Any]) -> torch.nn.Module:
    make: Any = {"text_encoder": make_gemma2, "transformer": _make_transformer, "vae_decoder": make_autoencoder}[role]
    try:
        module: torch.nn.Module = make(config)
    except Exception as error:  # the stock classes check little; what they stumble over is a value of the config
        raise InputError(
            f"{file} describes no {role} that can be built ({' '.join(str(error).split())[:300]!r}); found {show(dict(config))}"
        ) from error
    return module


def _check_network(role: str, module: torch.nn.Module, weights: Mapping[str, Handle], where: str) -> None:
    """Whether weights fit; an autoencoder may come without its encoder, which is never drawn with."""
    decoder = {name: handle for name, handle in weights.items() if name.startswith("decoder.")}
    if role == "vae_decoder" and len(decoder) == len(weights):
        inner = {name.removeprefix("decoder."): handle for name, handle in decoder.items()}
        check_fit(module.get_submodule("decoder"), inner, where)
    else:
        check_fit(module, weights, where, ignore=COMPUTED)


def specialize(student: Student, plan: StepPlan) -> Student:
    """Fix the text encoder's length and prefix, wrap the decoder, and rebuild the transformer without its time path."""
    config = student.configs["transformer"]
    decoder = student.components["vae_decoder"]
    keep, hidden = student.prompt.keep, student.configs["text_encoder"]["hidden_size"]
    latents = TensorSpec("latents", "float32", (1, *student.latent_shape), "x_s, unit-variance noise first")
    embeds = TensorSpec("prompt_embeds", "float32", (1, keep, hidden), "kept rows of the text encoder")
    mask = TensorSpec("prompt_mask", "int64", (1, keep), "1 for tokens of the prompt, 0 for padding")
    step = TensorSpec("step", "int64", (1,), "index into the plan's times")
    side = student.latent_shape[1] * 2 ** (len(student.configs["vae_decoder"]["decoder_block_out_channels"]) - 1)
    with torch.device("meta"):
        transformer = OneStepSana(config, len(plan.times)).eval()
    weights, notes = fold_transformer(student, plan)
    encoder = dataclasses.replace(encode_prompts(student.components["text_encoder"], student), outputs=(embeds,))
    denoiser = Component(
        "transformer",
        transformer,
        weights,
        (latents, embeds, mask, *((step,) if len(plan.times) > 1 else ())),
        (TensorSpec("denoised", "float32", (1, *student.latent_shape), "x0 = x_s - s v"),),
        forms=count_forms(transformer, FORMS),
        notes=notes,
    )
    painting = LatentDecoder(decoder.module).eval()
    painted, painted_notes = fold_decoder(decoder.weights, painting, student.latent_shape)
    painter = Component(
        "vae_decoder",
        painting,
        painted,
        (dataclasses.replace(latents, meaning="denoised latents, unit variance"),),
        (TensorSpec("image", "float32", (1, 3, side, side), "picture in [-1, 1], not clipped"),),
        forms=count_forms(painting, DECODER_FORMS),
        notes=painted_notes,
    )
    return dataclasses.replace(student, plan=plan, components={c.role: c for c in (encoder, denoiser, painter)})


def encode_prompts(text: Component, student: Student) -> Component:
    """The text encoder for the student's PromptPlan; where that holds a prefix, computing the positions after it only."""
    stock: Any = text.module
    config, prompt = stock.config, student.prompt
    held = len(prompt.prefix_ids)
    module = PromptEncoder(stock, prompt.tokens, prompt.keep, is_cached=held > 0).eval()
    named = dict(text.weights) | fold_text_range(text.weights, config.num_hidden_layers)
    named |= rotation_handles(stock.rotary_emb, prompt.tokens, held)
    weights = {f"model.{name}": handle for name, handle in named.items()}
    unused = count_unused(prompt.tokens) if held else 0
    weights |= bias_handles(config.sliding_window, prompt.tokens, held, unused)
    if held:
        weights |= PrefixCache(stock, text.weights, prompt.prefix_ids, unused).handles()
    meaning = "the prompt after the prefix, padded right" if held else "prefix + prompt, padded right"
    ids = TensorSpec("input_ids", "int64", (1, prompt.tokens - held), meaning)
    cache = f"prefix: keys and values of {held} tokens are constants, {prompt.keep - 1} are computed"
    notes = (
        "attention: eager (applies the soft cap)",
        "mask input dropped: causal, padded right",
        "range: residual stream and post-norm inputs scaled down, norms compensated",
        cache if held else f"prefix: all {prompt.tokens} positions are computed",
    )
    return Component("text_encoder", module, weights, (ids,), notes=notes)


def check_free_sizes(student: Student) -> None:
    """Whether the student's networks can draw more than one size of picture.

    Raises:
        RefusedError: its transformer adds a table of positions, which has one size.
    """
    config = student.configs["transformer"]
    if config["interpolation_scale"] is not None:
        side = config["sample_size"] // config["patch_size"]
        raise RefusedError(
            f"--dynamic: the transformer of {student.source} adds a table of {side} x {side} positions "
            f"(interpolation_scale={config['interpolation_scale']}), so it draws one size only; leave --dynamic out, or "
            "take a student without a table, as SANA-Sprint's published ones are"
        )


def free_sizes(student: Student) -> Student:
    """A specialized student whose specs leave height and width of latents and pictures free, in multiples of its patches.

    Raises:
        RefusedError: as `check_free_sizes`.
    """
    check_free_sizes(student)
    side, patch = student.latent_shape[1], student.configs["transformer"]["patch_size"]

    def free(specs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(_free_sides(spec, patch * int(spec.shape[2]) // side) if len(spec.shape) == 4 else spec for spec in specs)

    note = f"sizes: height and width are free; ranges and checks are those of latents of {side} x {side}"
    freed = {
        role: dataclasses.replace(c, inputs=free(c.inputs), outputs=free(c.outputs), notes=(*c.notes, note))
        for role, c in student.components.items()
        if role != "text_encoder"
    }
    return dataclasses.replace(student, components={**student.components, **freed})


def _free_sides(spec: TensorSpec, multiple: int) -> TensorSpec:
    return dataclasses.replace(spec, shape=(*spec.shape[:2], *(name_axis(multiple, name) for name in SIDES)))


def arrange_channels_first(student: Student) -> Student:
    """A specialized student with its transformer laid out for Apple's Neural Engine; the other networks stay."""
    transformer = to_channels_first(student.components["transformer"], student.configs["transformer"])
    components = {**student.components, "transformer": transformer}
    return dataclasses.replace(student, components=components, layout=CHANNELS_FIRST)


def _make_transformer(config: Mapping[str, Any]) -> SanaTransformer2DModel:
    """The stock denoiser on `meta`."""
    with torch.device("meta"):
        return SanaTransformer2DModel.from_config(dict(config)).eval()


def _read_weights(role: str, folder: Path, stem: str, variant: str | None) -> dict[str, Handle]:
    handles = open_safetensors(folder, stem, variant, says_format=role == "text_encoder")
    if role != "text_encoder":
        return {name: handle for name, handle in handles.items() if name != "patch_embed.pos_embed"}
    named = {name: handle for name, handle in handles.items() if not name.endswith("rotary_emb.inv_freq")}
    short = {name.removeprefix("model."): handle for name, handle in named.items()}
    if len(short) < len(named):
        raise InputError(
            f"{folder}: some weights are there twice, with and without 'model.' in their names; expected one of them"
        )
    return short
