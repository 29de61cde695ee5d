"""Which files a LoRA is read from: one of safetensors, or shards and their index, and PEFT's config beside them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sprint_export.errors import InputError
from sprint_export.nouns.parts import Lora
from sprint_export.students.folder import check_file

PEFT_CONFIG = "adapter_config.json"
STEMS = ("adapter_model", "pytorch_lora_weights", "diffusion_pytorch_model")  # of a folder: PEFT's, diffusers', a whole network's
MOST_SHOWN = 20  # names of an error


@dataclass(frozen=True)
class LoraFiles:
    """Weights, one file or shards with their index, in one folder; the stem of shards, else ""; PEFT's config, if any."""

    weights: tuple[Path, ...]
    stem: str = ""
    config: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return self.weights if self.config is None else (*self.weights, self.config)


def choose_weights(said: str, names: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The LoRA among the names of a folder's files: ("", its one file), or the stem of shards and their names.

    Raises:
        InputError: there is none, or one of several; they are listed.
    """
    for stem in STEMS:
        index = f"{stem}.safetensors.index.json"
        if index in names:
            return stem, tuple(name for name in sorted(names) if name.startswith(stem) and name.endswith((".safetensors", index)))
        if f"{stem}.safetensors" in names:
            return "", (f"{stem}.safetensors",)
    found = sorted(name for name in names if name.endswith(".safetensors"))
    if len(found) == 1:
        return "", (found[0],)
    shown = ", ".join(found[:MOST_SHOWN]) + (f" and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else "")
    raise InputError(
        f"--lora {said}: expected a folder with one LoRA, {' or '.join(STEMS)}.safetensors or a single file of safetensors; "
        f"found {shown or 'none'}" + (f"; name one, e.g. {said}/{found[0]}" if found else "")
    )


def find_files(lora: Lora) -> LoraFiles:
    """The files of a LoRA on the disk.

    Raises:
        InputError: one of them is no regular file, or a link out of its folder; or a folder holds none or several LoRAs.
    """
    path = lora.file
    folder, stem = path.parent, ""
    names: tuple[str, ...] = (path.name,)
    if path.is_dir():
        folder = path
        stem, names = choose_weights(lora.said, [file.name for file in path.iterdir()])
    config = folder / PEFT_CONFIG
    is_own = (path.is_dir() or path.stem == STEMS[0]) and (config.exists() or config.is_symlink())
    found = LoraFiles(tuple(folder / name for name in names), stem, config if is_own else None)
    for file in found.paths:
        check_file(file, folder)
    return found
