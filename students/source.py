"""Where a student comes from, and which family reads it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.parts import NO_PARTS, Lora, Parts
from sprint_export.nouns.student import Student
from sprint_export.paths import is_file, is_folder, resolve_path
from sprint_export.students.embedded import SHARES, complete_folder
from sprint_export.students.family import Family, list_families, load_family
from sprint_export.students.folder import find_part, fingerprint_folder, hash_file, read_card, read_pipeline
from sprint_export.students.hub import SUFFIX, fetch_folder, fetch_lora, is_cached, read_hub_id
from sprint_export.students.lora_files import find_files

HERE = Path(__file__).parent
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # and line ends
RANDOM = "random:"  # before a preset's name
PARTS = {  # subfolders of pipelines
    "decoder": ("vae",),
    "vae": ("vae",),
    "text_encoder": ("text_encoder", "tokenizer"),
    "controlnet": ("controlnet",),
}


def list_students() -> dict[str, str]:
    """Names `load_student` knows without a path -> what they are."""
    families = list_families()
    folders = sorted((path.parent for path in HERE.glob("*/model_index.json")), key=lambda folder: is_file(folder / SHARES))
    embedded = {folder.name.replace("_", "-"): f"embedded, trained: {read_card(folder, 'model_name')}" for folder in folders}
    hub = {name: title for family in families for name, title in family.hub_ids.items()}
    random = {f"{RANDOM}{name}": f"{title}, random weights" for family in families for name, title in family.presets.items()}
    return embedded | hub | random


def load_student(source: str | Path = "sprint-tiny", variant: str | None = None, parts: Parts = NO_PARTS) -> Student:
    """Load a student; configs and tokenizer now, weights when a later stage pulls them.

    Args:
        source: an embedded student's name, a diffusers folder, a hub id `owner/name[/folder][@revision]`, or `random:<preset>`
            for a full-size network with seeded random weights.
        variant: which weights of a folder or hub id, e.g. "fp16" for `model.fp16.safetensors`; default: the plain ones, or the
            only ones there are.
        parts: what changes or completes the checkpoint: LoRAs, another decoder, the networks a `.pth` comes without.

    Returns:
        Its components as stock modules on `meta` with lazy float weights.

    Raises:
        InputError: no such source, a missing or damaged file, or a config that does not fit its weights.
        MachineError: a hub id cannot be fetched (no network).
    """
    check_source(source, parts)
    found = _find_parts(parts)
    student = _load_plain(source, variant, found)
    if parts == NO_PARTS:
        return student
    from sprint_export.students.lora import merge_lora

    family = load_family(student.family)
    for lora in found.lora:
        student = merge_lora(student, family, lora)
    if found.decoder is not None:
        student = family.replace_decoder(student, Path(found.decoder))
    if found.controlnet is not None:
        student = family.add_controlnet(student, find_part(Path(found.controlnet), *PARTS["controlnet"]))
    return dataclasses.replace(student, parts=found, fingerprint=_fingerprint_parts(student, found))


def _find_parts(parts: Parts) -> Parts:
    """The same with a path for every name."""
    lora = tuple(map(_find_lora, parts.lora))
    found = {name: _find_folder(_flag(name), value)[0] for name, value in parts.folders.items()}
    return dataclasses.replace(parts, lora=lora, **found)


def _find_lora(lora: Lora) -> Lora:
    """The same with the path of its file or folder; a hub id is fetched."""
    file, hub = resolve_path("--lora", lora.file), read_hub_id(lora.said)
    if hub is None or (file.exists() and not lora.hub_id):
        return dataclasses.replace(lora, file=file)
    return dataclasses.replace(lora, file=fetch_lora(hub), hub_id=hub[0])


def _fingerprint_parts(student: Student, parts: Parts) -> str:
    """sha256 over the fingerprint of a student's checkpoint, what its parts were read from, and which variant of that."""
    loras = [[*(hash_file(file).hex() for file in find_files(each).paths), each.scale] for each in parts.lora]
    folders = {
        name: [fingerprint_folder(Path(folder), part=part) for part in {find_part(Path(folder), each): 0 for each in PARTS[name]}]
        for name, folder in parts.folders.items()
    }
    return hashlib.sha256(json.dumps([student.fingerprint, student.variant, loras, folders], sort_keys=True).encode()).hexdigest()


def _flag(part: str) -> str:
    return f"--{part.replace('_', '-')}"


def _load_plain(source: str | Path, variant: str | None, parts: Parts) -> Student:
    """The student of a source before a part replaces or changes anything."""
    name = str(source)
    if name.startswith(RANDOM):
        if variant is not None:
            raise InputError(f"variant {variant!r}: {name} has no files to choose from; leave --variant out")
        return _find_preset(name).load_preset(name.removeprefix(RANDOM))
    folder, said, revision = _find_folder("--student", source)
    return _find_family(folder, parts).load(folder, said, revision, variant, parts)


def _find_folder(option: str, source: str | Path) -> tuple[Path, str, str | None]:
    """Where a source's files lie, what it is called in a bundle, and its revision; a hub id is fetched."""
    name = str(source)
    if is_embedded(name):
        return complete_folder(HERE / name.replace("-", "_")), name, None
    folder = resolve_path(option, Path(source))
    if folder.exists():
        return folder, str(folder), None  # whole, so that a bundle finds it from anywhere
    hub = read_hub_id(name)
    assert hub is not None, "check_source lets nothing else through"
    known = (each for family in list_families() for each in family.hub_ids)
    return fetch_folder(hub, option == "--student", known), name, hub["revision"]


def check_source(source: str | Path, parts: Parts = NO_PARTS) -> Family | None:
    """The family of what `load_student` takes, by its name or its model index alone; None for a hub id that is not known.

    Raises:
        InputError: no such source or part, or a folder that is no pipeline this package knows.
    """
    _check_parts(parts)
    name = str(source)
    if (parts.vae or parts.text_encoder) is not None and not is_file(resolve_path("--student", Path(source))):
        raise InputError(f"--vae and --text-encoder complete a checkpoint file; {name} has its own: leave them out")
    if name.startswith(RANDOM):
        return _find_preset(name)
    if is_embedded(name):
        return _find_family(HERE / name.replace("-", "_"), parts)
    folder = resolve_path("--student", Path(source))
    if is_folder(folder) or is_file(folder):
        if _CONTROL.search(name):  # a bundle says where it came from, and no manifest may steer a terminal
            raise InputError(f"--student {name!r}: expected a path without control characters; rename the folder")
        return _find_family(folder, parts)
    if read_hub_id(name) is None:
        raise unknown_choice("student", name, list_students(), "Or give an existing diffusers folder or a hub id owner/name")
    return next((family for family in list_families() if name.partition("@")[0] in family.hub_ids), None)


def _check_parts(parts: Parts) -> None:
    for lora in parts.lora:
        file = resolve_path("--lora", lora.file)
        if not (is_folder(file) or (file.suffix == SUFFIX and is_file(file)) or (read_hub_id(lora.said) and not file.exists())):
            found = "pickles can hold code and are not read" if is_file(file) else "there is no such file"
            raise InputError(
                f"--lora {lora.file}: expected safetensors, a folder of them or a hub id owner/name[/file{SUFFIX}]; {found}"
            )
    for name, value in parts.folders.items():
        if not (is_embedded(str(value)) or is_folder(resolve_path(_flag(name), Path(value))) or read_hub_id(str(value))):
            raise InputError(f"{_flag(name)} {value}: there is no such folder; expected one, or a hub id owner/name")


def _find_preset(name: str) -> Family:
    """The family that has a preset."""
    owners = {preset: family for family in list_families() for preset in family.presets}
    preset = name.removeprefix(RANDOM)
    if preset not in owners:
        raise unknown_choice("random preset", preset, owners)
    return owners[preset]


def is_embedded(name: str) -> bool:
    """Whether a student of that name ships with the package."""
    if not re.fullmatch(r"[\w-]{1,80}", name):
        return False
    return is_file(HERE / name.replace("-", "_") / "model_index.json")


def _find_family(folder: Path, parts: Parts) -> Family:
    """The family that reads a folder; of several the one that asks for most of its weights."""
    families, index = list_families(), folder / "model_index.json"
    if not folder.is_dir():
        return _find_reader(folder, families, parts)
    if not index.is_file():
        raise InputError(
            f"{folder} has no model_index.json; expected a diffusers pipeline folder (transformer/, vae/, "
            "text_encoder/, tokenizer/, scheduler/)"
        )
    found = [family for family in families if family.reads(folder, parts)]
    if not found:
        known = dict.fromkeys(name for family in families for name in family.pipelines)
        raise unknown_choice(f"pipeline class in {index}:", read_pipeline(folder), known)
    return max(found, key=lambda family: len(family.marks))


def _find_reader(file: Path, families: Sequence[Family], parts: Parts) -> Family:
    """The family that reads a checkpoint's file, once all that it comes without is named."""
    family = next((family for family in families if family.reads(file, parts)), None)
    if family is None:
        raise InputError(f"{file} is a file; expected a diffusers folder with a model_index.json, or a native checkpoint, a .pth")
    missing = [
        f"{_flag(name)} FOLDER or hub id (e.g. {known})"
        for name, known in family.completed_by.items()
        if name not in parts.folders
    ]
    if missing:
        raise InputError(f"{file} holds the denoiser alone; give the rest beside it: {', '.join(missing)}")
    return family


def find_absent(source: str | Path, parts: Parts = NO_PARTS) -> str | None:
    """The first of a student and its parts that a run has to download, of what `check_source` lets through."""
    for name in map(str, (source, *parts.folders.values())):
        hub = None if name.startswith(RANDOM) or is_embedded(name) or Path(name).exists() else read_hub_id(name)
        if hub is not None and not is_cached(hub):
            return name
    for lora in parts.lora:
        hub = None if lora.file.exists() else read_hub_id(lora.said)
        if hub is not None and not is_cached(hub, is_lora=True):
            return lora.said
    return None
