"""LoRA: low-rank changes of a student's weights, added when a weight is read and so before anything is folded.

    V  = W + factor * B A                W [out, in, ...], A [rank, in, ...], B [out, rank, ...], in float32
    W' = V                               LoRA: factor = scale * alpha / rank; rsLoRA: scale * alpha / sqrt(rank)
    W' = m * V / ||V||                   DoRA: a norm and a magnitude m for each row of V [out, in * ...]

`scale` is the user's. It stands within the norm, where PEFT has it; at 1 all programs agree. LyCORIS' DoRA of old files measures
columns, `in`, in place of rows. Covered are Linear layers and convolutions without groups. Names: lora_names.py; alpha and rank:
lora_config.py. What a file holds beside (`<layer>.base_layer.weight` of a whole checkpoint, a trained bias) takes the place of
the student's. Refused by name: LoHa, LoKr and other methods, what the student has not, what does not fit.
Sources: PEFT's LoraLayer.get_delta_weight, DoraLinearVariant and _DoraConvNdVariant; LyCORIS' apply_weight_decompose; what
TwinFlow's save_ckpt writes (base_layer, `old`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.parts import Lora
from sprint_export.nouns.student import Student
from sprint_export.students.family import Family
from sprint_export.students.lora_config import Settings, read_settings
from sprint_export.students.lora_files import find_files
from sprint_export.students.lora_names import TAKEN, Change, Layers, refuse, sort_tensors
from sprint_export.weights import Handle, open_file, open_safetensors, widen_dtype

Weights = dict[str, dict[str, Handle]]  # by role and name


@dataclass(frozen=True)
class Magnitude:
    """DoRA's m, and along which axis of the weight it runs."""

    values: Handle
    axis: int


@dataclass(frozen=True)
class MergedHandle:
    """A weight with a LoRA's change of it; `factor` is scale * alpha / rank, `name` what errors call the weight."""

    weight: Handle
    down: Handle
    up: Handle
    factor: float
    magnitude: Magnitude | None = None
    name: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's own."""
        return self.weight.shape

    @property
    def dtype(self) -> torch.dtype:
        """At least float32: a change is smaller than the steps of bfloat16."""
        return widen_dtype(self.weight.dtype)

    def load(self) -> torch.Tensor:
        """W'.

        Raises:
            InputError: a row that has no length was to get a magnitude.
        """
        down, up = (each.load().to(self.dtype).flatten(1) for each in (self.down, self.up))
        merged = torch.addmm(self.weight.load().to(self.dtype).flatten(1), up, down, alpha=self.factor).reshape(self.shape)
        if self.magnitude is None:
            return merged
        axis = self.magnitude.axis
        norms = torch.linalg.vector_norm(merged, dim=[each for each in range(merged.ndim) if each != axis], keepdim=True)
        if not norms.all():
            raise InputError(f"{self.name}: DoRA's change leaves a row of zeros, which has no direction; the LoRA is damaged")
        return merged.mul_(self.magnitude.values.load().to(self.dtype).reshape(norms.shape) / norms)


@dataclass(frozen=True)
class GivenHandle:
    """A weight that a LoRA's file holds whole, in the place of the student's."""

    weight: Handle

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's own."""
        return self.weight.shape

    @property
    def dtype(self) -> torch.dtype:
        """The weight's own."""
        return self.weight.dtype

    def load(self) -> torch.Tensor:
        """The weight."""
        return self.weight.load()


def merge_lora(student: Student, family: Family, lora: Lora) -> Student:
    """The student with a LoRA in its weights; nothing of it is read but names, shapes and alphas.

    Raises:
        InputError: the file is damaged, holds no LoRA or one of another kind, or does not fit the student; the message names the
            layers.
    """
    files = find_files(lora)  # nothing else is opened
    file = files.weights[0]
    contents = sort_tensors(lora, open_safetensors(file.parent, files.stem) if files.stem else open_file(file))
    settings = read_settings(file, files.config)
    weights: Weights = {role: dict(each.weights) for role, each in student.components.items()}
    layers = Layers(family, {role: each.weights for role, each in student.components.items()})
    given = _replace(lora, layers, weights, contents.plain)
    touched = _merge(lora, layers, weights, contents.changes, settings)
    components = dict(student.components)
    for role in dict.fromkeys((*touched, *given)):
        note = f"lora: {lora.name} x {lora.scale:g}, {_say_counts(touched.get(role, []), given[role])}, merged in float32"
        components[role] = replace(components[role], weights=weights[role], notes=(*components[role].notes, note))
    return replace(student, components=components)


def is_merged(weights: Mapping[str, Handle]) -> bool:
    """Whether a LoRA is in a network's weights, so that they are not those of its file."""
    return any(isinstance(handle, MergedHandle | GivenHandle) for handle in weights.values())


def _replace(lora: Lora, layers: Layers, weights: Weights, plain: Mapping[str, Handle]) -> Counter[str]:
    """Put what a file holds beside its LoRA in the place of the student's own; how many by role."""
    unknown, given = [], Counter[str]()
    for key, handle in plain.items():
        found = layers.find_weight(key)
        fits = handle.dtype.is_floating_point
        if found is not None and fits and weights[found[0]][found[1]].shape == handle.shape:
            weights[found[0]][found[1]] = GivenHandle(handle)
            given[found[0]] += 1
        else:
            unknown.append(key)
    if unknown:
        raise refuse(
            lora, "has weights that the student has not in that shape", unknown, f"the student's own names and shapes, or {TAKEN}"
        )
    return given


def _merge(
    lora: Lora, layers: Layers, weights: Weights, changes: Mapping[str, Change], settings: Mapping[str, Settings]
) -> dict[str, list[MergedHandle]]:
    """Put a LoRA's changes around the weights; those made, by role."""
    unknown, misfits, made = [], [], dict[str, list[MergedHandle]]()
    seen: dict[tuple[str, str], str] = {}
    for layer, change in changes.items():
        if (place := layers.find(lora, layer)) is None:
            unknown.append(layer)
            continue
        role, name = place
        if place in seen:
            raise refuse(lora, f"changes {role}.{name} under several names", [seen[place], layer], "each layer once")
        seen[place] = layer
        said = settings.get(role) or settings.get("") or Settings()
        weight = weights[role][name]
        if (fault := _find_misfit(change, weight, said, name)) is not None:
            misfits.append(f"{layer} ({fault})")
            continue
        merged = _make_handle(lora, change, weight, said, name)
        weights[role][name] = merged
        made.setdefault(role, []).append(merged)
    if unknown:
        raise refuse(lora, "changes layers that the student has not", unknown, layers.suggest(unknown[0]))
    if misfits:
        raise refuse(lora, "does not fit the student's layers", misfits, "the shapes and ranks of its layers")
    return made


def _find_misfit(change: Change, weight: Handle, said: Settings, name: str) -> str | None:
    """Why a change cannot be one of a weight, or of this config; None where it can."""
    (rank, *inner), (rows, *columns) = change.down.shape or (0,), change.up.shape or (0,)
    if rank < 1 or not inner or (rows, *inner) != weight.shape or math.prod(columns) != rank:
        return f"B {change.up.shape} A {change.down.shape} for {weight.shape}"
    if (wanted := said.find_rank(name.removesuffix(".weight"))) is not None and wanted != rank:
        return f"of rank {rank}, where the config says {wanted:g}"
    if said.has_magnitudes is not None and said.has_magnitudes != (change.magnitude is not None):
        found = "no magnitude" if said.has_magnitudes else "a magnitude"
        return f"{found}, where the config says use_dora={str(said.has_magnitudes).lower()}"
    if change.magnitude is not None and _find_axis(change.magnitude, change.is_by_rows, weight) is None:
        return f"magnitude {change.magnitude.shape} for {weight.shape}"
    return None


def _find_axis(magnitude: Handle, is_by_rows: bool, weight: Handle) -> int | None:
    """Which axis of a weight its magnitude runs along: PEFT's rows, in its shapes; LyCORIS' rows or columns, by shape."""
    rows, columns, *rest = weight.shape
    ones = [1] * len(rest)
    if magnitude.shape in ((rows,), (rows, 1, *ones)) or (is_by_rows and magnitude.shape == (1, rows, *ones)):
        return 0
    return 1 if not is_by_rows and magnitude.shape == (1, columns, *ones) else None


def _make_handle(lora: Lora, change: Change, weight: Handle, said: Settings, name: str) -> MergedHandle:
    """A weight with a change that fits it."""
    factor = lora.scale * said.scale(name.removesuffix(".weight"), change.down.shape[0], change.alpha)
    magnitude = None
    if change.magnitude is not None:
        magnitude = Magnitude(change.magnitude, _find_axis(change.magnitude, change.is_by_rows, weight) or 0)
    return MergedHandle(weight, change.down, change.up, factor, magnitude, f"--lora {lora.said}: {name}")


def _say_counts(merged: list[MergedHandle], given: int) -> str:
    """How many layers were changed how."""
    kind = " (DoRA)" if any(each.magnitude for each in merged) else ""
    return " and ".join([f"{len(merged)} layers{kind}"] * bool(merged) + [f"{given} whole weights"] * bool(given))
