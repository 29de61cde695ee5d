"""What families share when they read a diffusers folder: one subfolder a network, with a config and lazy weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sprint_export.errors import InputError
from sprint_export.nouns.student import Student
from sprint_export.students.covered import DIFFUSERS, Table, check_values, default_values, show
from sprint_export.students.folder import fingerprint_folder, read_licence, read_prompts
from sprint_export.weights import Handle, choose_variant, find_weights, materialize

GENERAL_PROMPTS = Path(__file__).parent / "prompts.txt"
LARGE = 1 << 18  # values (1 MB) from which a weight is loaded when its module runs
Config = Mapping[str, Any]
Maker = Callable[[Config], torch.nn.Module]
Folders = Mapping[str, tuple[str, str]]  # role -> subfolder, and how the names of its weights begin
FOLDERS: Folders = {
    "text_encoder": ("text_encoder", "model"),
    "transformer": ("transformer", "diffusion_pytorch_model"),
    "vae_decoder": ("vae", "diffusion_pytorch_model"),
}
Agreement = tuple[str, object, object, str]  # a key, what it is, what it has to be, and why


def note_origin(student: Student, folder: Path, revision: str | None, variant: str | None) -> Student:
    """The student with what its folder says beside its networks: prompts, licence, fingerprint.

    Raises:
        InputError: a file is damaged.
    """
    return replace(
        add_prompts(student, folder),
        revision=revision,
        fingerprint=fingerprint_folder(folder, list_other_variants(folder, FOLDERS, variant)),
        licence=read_licence(folder),
        folder=folder,
        variant=variant,
    )


def list_other_variants(folder: Path, folders: Folders, variant: str | None) -> set[Path]:
    """Weights that lie beside the chosen ones and are not read, so that a fingerprint tells variants apart."""
    unused: set[Path] = set()
    for name, stem in folders.values():
        chosen = choose_variant(folder / name, stem, variant)
        mark = f".{chosen}" if chosen else ""
        used = {*find_weights(folder / name, stem, variant), folder / name / f"{stem}.safetensors.index{mark}.json"}
        unused |= {path for path in (folder / name).glob(f"{stem}*") if ".safetensors" in path.name and path not in used}
    return unused


def add_prompts(student: Student, folder: Path) -> Student:
    """The student with the prompts to calibrate and validate on that lie in its folder, or this package's.

    Raises:
        InputError: a file of them is damaged.
    """
    files = [folder / f"{use}_prompts.txt" for use in ("calibration", "validation")]
    calibration, validation = (read_prompts(file, folder) if file.exists() else read_general_prompts() for file in files)
    return replace(student, calibration_prompts=calibration, validation_prompts=validation)


def read_general_prompts() -> tuple[str, ...]:
    """The prompts of this package, for students that come without."""
    return read_prompts(GENERAL_PROMPTS, GENERAL_PROMPTS.parent)


def check_index(file: str, index: Config, table: Table, optional: Table | None = None) -> None:
    """Whether a model index names the classes of a table, and all of them; those of `optional` may be there too.

    Raises:
        InputError: one line with the file, the key, what it holds and what is covered.
    """
    check_values(file, index, {**table, **(optional or {})})
    missing = sorted(set(table) - set(DIFFUSERS) - set(index))
    if missing:
        raise InputError(f"{file}: {missing[0]} is missing; expected {table[missing[0]].said}")


def complete_stock(stock: type, file: str, config: Config, table: Table) -> dict[str, Any]:
    """A config with what its diffusers class assumes for keys it lacks, once all values are covered.

    Raises:
        InputError: a value that is not covered.
    """
    complete = default_values(stock) | dict(config)
    check_values(file, complete, table)
    return complete


def check_said(file: str, said: Config, defaults: Config, table: Table) -> None:
    """Whether a transformers config's values are covered, but for keys that the networks do not read and that are as always.

    Raises:
        InputError: a value that is not covered.
    """
    ordinary = {key for key, value in said.items() if key not in table and key in defaults and defaults[key] == value}
    check_values(file, {key: value for key, value in said.items() if key not in ordinary}, table)


def check_equal(file: str, agreements: Iterable[Agreement]) -> None:
    """Whether values that have to agree do.

    Raises:
        InputError: the first that does not.
    """
    for key, found, wanted, reason in agreements:
        if found != wanted:
            raise InputError(f"{file}: {key} is {found}, expected {wanted}: {reason}")


def check_depth(file: str, key: str, config: Config, names: Iterable[str], blocks: str) -> None:
    """Whether a network has as many layers as its weights: said before it is built, which takes a second a thousand.

    Raises:
        InputError: it has not.
    """
    found = {match[1] for name in names if (match := re.match(rf"{blocks}\.(\d+)\.", name))}
    if config[key] != len(found):
        raise InputError(f"{file}: {key}={config[key]}: the config does not fit its weights, which are of {len(found)} layers")


def build_module(make: Maker, role: str, file: str, config: Config) -> torch.nn.Module:
    """The stock module that a config describes, on `meta`.

    Raises:
        InputError: there is none.
    """
    try:
        return make(config)
    except Exception as error:  # the stock classes check little; what they stumble over is a value of the config
        raise InputError(
            f"{file} describes no {role} that can be built ({' '.join(str(error).split())[:300]!r}); found {show(dict(config))}"
        ) from error


def stream_stock(module: torch.nn.Module, weights: Mapping[str, Handle], device: str) -> torch.nn.Module:
    """A stock module in float32 whose large weights are loaded when the module that owns them runs, and freed after it.

    Args:
        module: on `meta`.
        weights: by its names.
        device: where it runs.
    """
    large = {name for name, _ in module.named_parameters() if math.prod(weights[name].shape) > LARGE}
    real = materialize(module, {name: handle for name, handle in weights.items() if name not in large}, device=device)
    for name, part in real.named_modules():
        own = {leaf: weights[path] for leaf in part._parameters if (path := f"{name}.{leaf}") in large}
        if own:
            _stream(part, own, device)
    return real


def _stream(module: torch.nn.Module, handles: Mapping[str, Handle], device: str) -> None:
    absent = {leaf: module._parameters[leaf] for leaf in handles}

    def load(module: torch.nn.Module, *_: Any) -> None:
        for leaf, handle in handles.items():
            module._parameters[leaf] = torch.nn.Parameter(handle.load().to(device).float(), requires_grad=False)

    def free(module: torch.nn.Module, *_: Any) -> None:
        module._parameters.update(absent)

    module.register_forward_pre_hook(load)
    module.register_forward_hook(free, always_call=True)
