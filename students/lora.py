"""LoRA: low-rank changes of a student's weights, added when a weight is read and so before anything is folded.

    W' = W + scale * (alpha / rank) * B A        W [out, in, ...], A [rank, in, ...], B [out, rank, ...], in float32

Covered are Linear layers and convolutions without groups, under the names that PEFT (`lora_A`, `lora_B`, with an adapter's name
behind or without), diffusers (`lora.down`, `lora.up`) and others (`lora_down`, `lora_up`) give them, with the prefixes of their
wrappers; alpha from a tensor `<layer>.alpha`, PEFT's adapter_config.json or diffusers' metadata, else equal to the rank. What
such a file holds beside (`<layer>.base_layer.weight` of a whole checkpoint, a trained bias) takes the place of the student's.
Of several adapters `default` counts. Refused: names in which underscores stand for dots, DoRA, LoHa, LoKr, biases of A or B.
Sources: PEFT's LoraLayer.get_delta_weight; diffusers' load_lora_adapter; what TwinFlow's save_ckpt writes (base_layer, `old`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.parts import Lora
from sprint_export.nouns.student import Student
from sprint_export.students.family import Family
from sprint_export.students.folder import check_file, list_hashed, parse_text, read_json
from sprint_export.weights import Handle, open_file, open_safetensors, read_metadata, widen_dtype

STEMS = ("adapter_model", "pytorch_lora_weights", "diffusion_pytorch_model")  # of a folder: PEFT's, diffusers', a whole network's
PEFT_CONFIG, DIFFUSERS_METADATA = "adapter_config.json", "lora_adapter_metadata"
WRAPPERS = ("base_model.model.", "module.", "diffusion_model.", "model.diffusion_model.")
_FACTOR = re.compile(r"(?P<layer>.+?)\.(lora_(?P<side>[AB]|down|up)|lora\.(?P<dotted>down|up))(\.(?P<adapter>\w+))?\.weight")
_FOREIGN = re.compile(
    r"^lora_(unet|transformer|te\d?)_|lora_magnitude|dora_scale|hada_|lokr_|lora_embedding|\.lora_[AB].*\.bias$"
)


@dataclass(frozen=True)
class MergedHandle:
    """A weight with a LoRA's change of it; `factor` is scale * alpha / rank."""

    weight: Handle
    down: Handle
    up: Handle
    factor: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's own."""
        return self.weight.shape

    @property
    def dtype(self) -> torch.dtype:
        """At least float32: a change is smaller than the steps of bfloat16."""
        return widen_dtype(self.weight.dtype)

    def load(self) -> torch.Tensor:
        """W + factor * B A."""
        down, up = (each.load().to(self.dtype).flatten(1) for each in (self.down, self.up))
        return torch.addmm(self.weight.load().to(self.dtype).flatten(1), up, down, alpha=self.factor).reshape(self.shape)


def merge_lora(student: Student, family: Family, lora: Lora) -> Student:
    """The student with a LoRA in its weights; nothing of it is read but names and shapes.

    Raises:
        InputError: the file is damaged, holds no LoRA or one of another kind, or does not fit the student; the message names the
            layers.
    """
    list_files(lora.file)  # nothing else is opened
    handles = _open(lora.file)
    foreign = [name for name in handles if _FOREIGN.search(name)]
    if foreign:
        raise _refuse(lora, "has tensors of a kind that is not covered", foreign, "PEFT's or diffusers' names of a plain LoRA")
    factors, alphas, plain = _sort(lora, handles)
    settings = read_settings(lora.file)
    weights: dict[str, dict[str, Handle]] = {role: dict(each.weights) for role, each in student.components.items()}
    _replace(lora, family, weights, plain)
    unknown, misfits, touched = [], [], Counter[str]()
    for layer, (down, up) in factors.items():
        role, name = family.find_lora_layer(strip_wrappers(layer))
        weight = weights.get(role, {}).get(f"{name}.weight")
        if weight is None:
            unknown.append(layer)
        elif (up.shape[0], down.shape[1:], down.shape[0]) != (weight.shape[0], weight.shape[1:], math.prod(up.shape[1:])):
            misfits.append(f"{layer} (B {up.shape} A {down.shape} for {weight.shape})")
        else:
            rank, alpha = down.shape[0], alphas.get(layer, settings.find_alpha(layer))
            size = 1.0 if alpha is None else alpha / (math.sqrt(rank) if settings.is_rank_stabilized else rank)
            weights[role][f"{name}.weight"] = MergedHandle(weight, down, up, lora.scale * size)
            touched[role] += 1
    if unknown:
        raise _refuse(lora, "changes layers that the student has not", unknown, f"layers of {student.source}")
    if misfits:
        raise _refuse(lora, "does not fit the student's layers", misfits, f"the shapes of {student.source}")
    components = dict(student.components)
    for role, count in touched.items():
        note = f"lora: {lora.file.name} x {lora.scale:g}, {count} layers, merged in float32"
        components[role] = replace(components[role], weights=weights[role], notes=(*components[role].notes, note))
    return replace(student, components=components)


def list_files(path: Path) -> list[Path]:
    """All that a LoRA is read from.

    Raises:
        InputError: one of them is no regular file, or a link out of its folder.
    """
    if path.is_dir():
        return [check_file(file, path) for file in list_hashed(path)]
    beside = [path.parent / PEFT_CONFIG] if path.stem == STEMS[0] else []
    return [check_file(file, path.parent) for file in (path, *beside) if file is path or file.exists()]


def strip_wrappers(name: str) -> str:
    """A layer's name without the prefixes that training and other tools put before it."""
    while found := next((prefix for prefix in WRAPPERS if name.startswith(prefix)), None):
        name = name.removeprefix(found)
    return name


def is_merged(weights: Mapping[str, Handle]) -> bool:
    """Whether a LoRA is in a network's weights, so that they are not those of its file."""
    return any(isinstance(handle, MergedHandle) for handle in weights.values())


def _open(path: Path) -> dict[str, Handle]:
    if path.is_dir():
        stem = next((stem for stem in STEMS if any(path.glob(f"{stem}*.safetensors"))), STEMS[0])
        return open_safetensors(path, stem)
    return open_file(path)


def _sort(
    lora: Lora, handles: Mapping[str, Handle]
) -> tuple[dict[str, tuple[Handle, Handle]], dict[str, float], dict[str, Handle]]:
    """(down, up) by layer, alphas by layer, and what is no part of a LoRA."""
    sides: dict[str, dict[str, dict[str, Handle]]] = {}
    alphas, plain = {}, {}
    for name, handle in handles.items():
        if match := _FACTOR.fullmatch(name):
            side = "down" if (match["side"] or match["dotted"]) in ("A", "down") else "up"
            sides.setdefault(match["adapter"] or "", {}).setdefault(match["layer"], {})[side] = handle
        elif name.endswith(".alpha") and math.prod(handle.shape) == 1:
            alphas[name.removesuffix(".alpha")] = float(handle.load())
        else:
            plain[name] = handle
    if not sides:
        raise _refuse(lora, "holds no LoRA", sorted(handles), "<layer>.lora_A.weight and <layer>.lora_B.weight")
    if len(sides) > 1 and "default" not in sides:
        raise _refuse(lora, "has several adapters and none named default", sorted(sides), "one of them")
    chosen = sides["default"] if "default" in sides else next(iter(sides.values()))
    halves = [layer for layer, pair in chosen.items() if len(pair) < 2]
    if halves:
        raise _refuse(lora, "has one factor only of layers", halves, "both A and B")
    return {layer: (pair["down"], pair["up"]) for layer, pair in chosen.items()}, alphas, plain


def _replace(lora: Lora, family: Family, weights: dict[str, dict[str, Handle]], plain: Mapping[str, Handle]) -> None:
    """Put what a file holds beside its LoRA in the place of the student's own."""
    unknown = []
    for key, handle in plain.items():
        role, name = family.find_lora_layer(strip_wrappers(key).replace(".base_layer.", "."))
        if name in weights.get(role, {}) and weights[role][name].shape == handle.shape:
            weights[role][name] = handle
        else:
            unknown.append(key)
    if unknown:
        raise _refuse(lora, "has weights that the student has not in that shape", unknown, "the student's own names and shapes")


@dataclass(frozen=True)
class Settings:
    """What a LoRA's config says of its scale: alpha, other ones by pattern, and whether it is divided by the rank's root."""

    alpha: float | None = None
    patterns: Mapping[str, float] | None = None
    is_rank_stabilized: bool = False

    def find_alpha(self, layer: str) -> float | None:
        """That of a layer; a pattern is a regular expression for the end of its name, as PEFT has it."""
        for pattern, alpha in (self.patterns or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", layer):
                return alpha
        return self.alpha


def read_settings(path: Path) -> Settings:
    """PEFT's adapter_config.json beside the weights, else what diffusers wrote into their metadata.

    Raises:
        InputError: it is damaged, or of another method than LoRA.
    """
    folder = path if path.is_dir() else path.parent
    config, where = {}, folder / PEFT_CONFIG
    if where.exists() and (path.is_dir() or path.stem == STEMS[0]):
        config = read_json(where, folder)
    elif not path.is_dir():
        where = path
        try:
            packed = parse_text(read_metadata(path).get(DIFFUSERS_METADATA, "{}"))
            config = {str(key).rpartition(".")[2]: value for key, value in packed.items()}
        except (ValueError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: its metadata {DIFFUSERS_METADATA} is damaged ({error}); save the LoRA again") from error
    return _check_settings(where, config)


def _check_settings(where: Path, config: Mapping[str, Any]) -> Settings:
    if config.get("peft_type", "LORA") != "LORA" or config.get("use_dora"):
        kind = "DoRA" if config.get("use_dora") else config["peft_type"]
        raise InputError(f"{where}: an adapter of the kind {kind}, expected a plain LoRA; merge it with the tool that made it")
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
    numbers = [alpha, *patterns.values()] if isinstance(patterns, dict) else [patterns]
    if any(not (value is None or (isinstance(value, int | float) and math.isfinite(value))) for value in numbers):
        raise InputError(f"{where}: lora_alpha={alpha!r}, alpha_pattern={patterns!r}: expected finite numbers")
    try:
        for pattern in patterns:
            re.compile(pattern)
    except re.error as error:
        raise InputError(f"{where}: alpha_pattern {pattern!r} is no regular expression ({error})") from error
    return Settings(alpha, patterns, bool(config.get("use_rslora")))


def _refuse(lora: Lora, said: str, names: list[str], expected: str) -> InputError:
    shown = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
    return InputError(f"--lora {lora.file} {said}: {shown or 'nothing'}; expected {expected}")
