"""SANA-Sprint and TBCM students (same network and sampler): SanaTransformer2DModel, Gemma-2, DC-AE.

Loads a diffusers folder lazily (configs now, weights when pulled), specializes the transformer to its fixed steps, and
rebuilds the stock SanaSprintPipeline as the reference. Prompt preparation follows diffusers 0.39 to the token.
Sources: arXiv 2503.09641 (SANA-Sprint), 2511.20410 (TBCM), diffusers pipeline_sana_sprint.py.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import SanaSprintPipeline, SanaTransformer2DModel, SCMScheduler
from transformers import AutoTokenizer

from sprint_export.errors import InputError, RefusedError
from sprint_export.schema import CHANNELS_FIRST, ROLES, Component, PromptPlan, StepPlan, Student, TensorSpec
from sprint_export.sizes import SIDES, name_axis
from sprint_export.students.dc_ae import LatentDecoder, fold_decoder, make_autoencoder
from sprint_export.students.gemma2 import (
    PromptEncoder,
    bias_handles,
    count_unused,
    fold_text_range,
    make_gemma2,
    rotary_handles,
    rotation_handles,
)
from sprint_export.students.gemma2_prefix import PrefixCache
from sprint_export.students.sana_blocks import OneStepSana
from sprint_export.students.sana_channels_first import to_channels_first
from sprint_export.students.sana_folds import fold_transformer, position_table
from sprint_export.students.sana_smooth import TEXT_LAYERS as TEXT_LAYERS
from sprint_export.students.sana_smooth import list_migrations as list_migrations
from sprint_export.weights import Handle, check_fit, constant, materialize, open_safetensors

FAMILY = "sana_sprint"
PIPELINES = ("SanaSprintPipeline",)
GENERAL_PROMPTS = Path(__file__).with_name("prompts.txt")
MAX_TOKENS = 300  # SanaSprintPipeline.__call__'s max_sequence_length
COMPUTED = ("rotary_emb.", "patch_embed.pos_embed")  # buffers that no checkpoint stores
SCHEDULER = {"_class_name": "SCMScheduler", "num_train_timesteps": 1000, "prediction_type": "trigflow", "sigma_data": 0.5}
MODEL_INDEX = {  # an exported bundle's: the layout other tools expect, with ONNX graphs in the place of torch weights
    "_class_name": "SanaSprintPipeline",
    "scheduler": ["diffusers", "SCMScheduler"],
    "text_encoder": ["onnx", "model"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["onnx", "model"],
    "vae_decoder": ["onnx", "model"],
}
FOLDERS = {
    "text_encoder": ("text_encoder", "model"),
    "transformer": ("transformer", "diffusion_pytorch_model"),
    "vae_decoder": ("vae", "diffusion_pytorch_model"),
}


def load(folder: Path, source: str, revision: str | None) -> Student:
    """Read a diffusers folder: configs, tokenizer, handles of the weights.

    Raises:
        InputError: a file is missing or damaged, or a config does not fit its weights; the message names it.
    """
    configs = {role: read_json(folder / name / "config.json") for role, (name, _) in FOLDERS.items()}
    configs["transformer"] = _fill_defaults(configs["transformer"])
    weights = {role: _read_weights(role, folder / name, stem, configs[role]) for role, (name, stem) in FOLDERS.items()}
    tokenizer = folder / "tokenizer"
    if not (tokenizer / "tokenizer.json").is_file():
        raise InputError(f"{tokenizer}/tokenizer.json is missing; save the pipeline's fast tokenizer there")
    student = assemble(configs, weights, tokenizer, source, revision, fingerprint_folder(folder), read_licence(folder))
    calibration, validation = (read_prompts(folder / f"{use}_prompts.txt") for use in ("calibration", "validation"))
    return dataclasses.replace(student, calibration_prompts=calibration, validation_prompts=validation)


def assemble(
    configs: Mapping[str, Mapping[str, Any]],
    weights: Mapping[str, Mapping[str, Handle]],
    tokenizer: Path,
    source: str,
    revision: str | None,
    fingerprint: str,
    licence: str,
) -> Student:
    """Join configs and weight handles to a student of stock modules on `meta`.

    Raises:
        InputError: a config lacks what a one-step student needs, or does not fit its weights.
    """
    transformer = configs["transformer"]
    if not transformer.get("guidance_embeds"):
        raise InputError(
            f"{source}: transformer/config.json has guidance_embeds={transformer.get('guidance_embeds')!r}; expected "
            "true: this is a multi-step SANA, not a SANA-Sprint student. Use a *_Sprint_* checkpoint"
        )
    makers = {"text_encoder": make_gemma2, "transformer": _make_transformer, "vae_decoder": make_autoencoder}
    modules: dict[str, torch.nn.Module] = {}
    for role, make in makers.items():
        try:
            modules[role] = make(configs[role])
        except Exception as error:  # the model classes check nothing; what they stumble over is a value of the config
            raise InputError(
                f"{source}: {FOLDERS[role][0]}/config.json describes no {role} that can be built ({error!r}); "
                f"found {dict(configs[role])}"
            ) from error
    for role, module in modules.items():
        wanted = module.get_submodule("decoder") if role == "vae_decoder" else module
        inner = (
            {k.removeprefix("decoder."): v for k, v in weights[role].items() if k.startswith("decoder.")}
            if role == "vae_decoder"
            else weights[role]
        )
        check_fit(wanted, inner, f"{source}: {FOLDERS[role][0]}", ignore=COMPUTED)
    components = {role: Component(role, modules[role], weights[role]) for role in ROLES}
    size = transformer["sample_size"]
    return Student(
        family=FAMILY,
        source=source,
        revision=revision,
        fingerprint=fingerprint,
        components=components,
        prompt=dataclasses.replace(plan_prompt(tokenizer), vocabulary=weights["text_encoder"]["embed_tokens.weight"].shape[0]),
        tokenizer=tokenizer,
        latent_shape=(transformer["in_channels"], size, size),
        configs=dict(configs) | {"model_index": MODEL_INDEX, "scheduler": SCHEDULER},
        licence=licence,
        make_reference=make_reference,
    )


def plan_prompt(tokenizer: Path) -> PromptPlan:
    """SANA's prompt: instruction prefix, lower case, right padding to len(prefix tokens) + 300 - 2 positions.

    Raises:
        InputError: the tokenizer is damaged or has no pad token.
    """
    defaults = inspect.signature(SanaSprintPipeline.__call__).parameters
    prefix = "\n".join(defaults["complex_human_instruction"].default)
    try:
        reader = AutoTokenizer.from_pretrained(tokenizer)
    except Exception as error:  # tokenizers raises plain Exception for a damaged file
        raise InputError(
            f"{tokenizer} holds no tokenizer that can be read ({error}); save the pipeline's fast tokenizer there"
        ) from error
    if reader.pad_token_id is None:
        raise InputError(
            f"{tokenizer} names no pad token; expected one, as Gemma's tokenizer has (tokenizer_config.json: pad_token)"
        )
    return PromptPlan(
        prefix=prefix, lower=True, tokens=len(reader.encode(prefix)) + MAX_TOKENS - 2, keep=MAX_TOKENS, pad_id=reader.pad_token_id
    )


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
        notes=painted_notes,
    )
    return dataclasses.replace(student, plan=plan, components={c.role: c for c in (encoder, denoiser, painter)})


def encode_prompts(text: Component, student: Student) -> Component:
    """The text encoder for the student's PromptPlan; where that holds a prefix, computing the positions after it only."""
    config, prompt = student.configs["text_encoder"], student.prompt
    held = len(prompt.prefix_ids)
    module = PromptEncoder(text.module, prompt.tokens, prompt.keep, is_cached=held > 0).eval()
    named = dict(text.weights) | fold_text_range(text.weights, config["num_hidden_layers"])
    named |= rotation_handles(config, prompt.tokens, held)
    weights = {f"model.{name}": handle for name, handle in named.items() if name != "rotary_emb.inv_freq"}
    unused = count_unused(prompt.tokens) if held else 0
    weights |= bias_handles(config, prompt.tokens, held, unused)
    if held:
        weights |= PrefixCache(text.module, text.weights, config, prompt.prefix_ids, unused).handles()
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


def make_reference(student: Student) -> SanaSprintPipeline:
    """The stock pipeline in float32 with this (unspecialized) student's weights; the encoder of the autoencoder stays empty."""
    real = {role: materialize(copy.deepcopy(c.module), c.weights) for role, c in student.components.items()}
    return SanaSprintPipeline(
        tokenizer=AutoTokenizer.from_pretrained(student.tokenizer),
        text_encoder=real["text_encoder"],
        vae=real["vae_decoder"],
        transformer=real["transformer"],
        scheduler=SCMScheduler.from_config(SCHEDULER),
    )


def _make_transformer(config: Mapping[str, Any]) -> SanaTransformer2DModel:
    """The stock denoiser on `meta`."""
    with torch.device("meta"):
        return SanaTransformer2DModel.from_config(dict(config)).eval()


def _fill_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with what diffusers would assume for keys it lacks: an older diffusers wrote fewer of them."""
    parameters = inspect.signature(SanaTransformer2DModel.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty} | dict(config)


def _read_weights(role: str, folder: Path, stem: str, config: Mapping[str, Any]) -> dict[str, Handle]:
    handles = open_safetensors(folder, stem)
    if role == "text_encoder":
        handles = {name.removeprefix("model."): handle for name, handle in handles.items()}
        handles |= rotary_handles(config)
    elif role == "transformer" and config["interpolation_scale"] is not None:
        handles["patch_embed.pos_embed"] = constant(position_table(config))
    return handles


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: the file is missing or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} is missing; expected a diffusers folder as SanaSprintPipeline.save_pretrained writes it"
        ) from error
    except (ValueError, OSError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds a {type(value).__name__}, expected a JSON object")
    return value


def read_prompts(path: Path) -> tuple[str, ...]:
    """One prompt a line from a file that ships with the student, or the general prompts of this package."""
    text = (path if path.is_file() else GENERAL_PROMPTS).read_text("utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def fingerprint_folder(folder: Path) -> str:
    """sha256 over the names and contents of the configs, weights and tokenizer files."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".safetensors")):
        total.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_licence(folder: Path) -> str:
    """The `license:` line of the model card's front matter, or a hint where to look."""
    card = folder / "README.md"
    lines = card.read_text("utf-8").splitlines() if card.is_file() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("license:")), "not stated; see the model's page"
    )
