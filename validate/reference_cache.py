"""The reference's pictures, kept on disk: validating again, or with a larger count, draws only what is new.

A file is one picture: sha256 of the rest, which is numpy's npz of the picture and its latents. Its name is the sha256 of all
that decides it: student, prompt, noise, what optional networks take, steps, guidance, versions of the libraries, the family's
code, the CPU's instructions. A damaged file is drawn again; the folder is kept below MOST_BYTES, oldest out first. Where it
cannot be written, nothing is kept.
Seconds are of pictures drawn in this run alone: a kept one took none.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.cache import cache_folder
from sprint_export.files import sweep_parts, write_bytes
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, quiet
from sprint_export.students.family import Draws, Reference, load_family

LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers")
MOST_BYTES = 2_000_000_000
DIGEST = hashlib.sha256().digest_size

Picture = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]  # uint8 [H, W, 3], float32 [*latents]


def recall_reference(student: Student, draws: Draws, progress: Progress = quiet, is_fresh: bool = False) -> Reference:
    """What the family's reference draws, of which only what is not kept yet is drawn.

    Args:
        student: unspecialized.
        draws: prompts, noise and guidance.
        progress: is told (step, done, total).
        is_fresh: draw all of them, for their seconds; they are kept.
    """
    folder, paths = reference_folder(), list_paths(student, draws)
    pictures = [None if is_fresh else _read_picture(path) for path in paths]
    missing = [i for i, picture in enumerate(pictures) if picture is None]
    seconds: dict[str, list[float]] = {}
    if missing:
        drawn = draw_reference(student, draws.take(missing), progress)
        seconds = drawn.seconds
        for row, i in enumerate(missing):
            picture = drawn.pictures[row], drawn.latents[row]
            pictures[i] = picture
            _write_picture(paths[i], picture)
        _bound_folder(folder)
    whole = [picture for picture in pictures if picture is not None]
    return Reference(np.stack([picture for picture, _ in whole]), np.stack([latents for _, latents in whole]), seconds)


def list_paths(student: Student, draws: Draws) -> list[Path]:
    """Where each picture is kept, once it was drawn."""
    drawing = _describe_drawing(student, draws)
    return [reference_folder() / _hash_picture(drawing, draws.take([i])) for i, _ in enumerate(draws.prompts)]


def draw_reference(student: Student, draws: Draws, progress: Progress) -> Reference:
    """What the family's original implementation draws."""
    return load_family(student.family).draw_reference(student, draws, progress)


def reference_folder() -> Path:
    """Where pictures are kept."""
    return cache_folder() / "reference"


def _describe_drawing(student: Student, draws: Draws) -> str:
    """All that decides a picture beside its prompt and noise."""
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    own = load_family(student.family).folder
    files = sorted(own.glob("*.py"), key=lambda path: path.name)
    code = [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]
    steps, guidance = len(draws.noise), draws.guidance
    cpu = torch.backends.cpu.get_cpu_capability() if draws.compute.is_cpu else draws.compute.title
    return json.dumps([student.fingerprint, student.source, steps, guidance, "float32", versions, code, cpu])


def _hash_picture(drawing: str, one: Draws) -> str:
    arrays = {"noise": one.noise, **one.inputs}
    total = hashlib.sha256(json.dumps([drawing, *one.prompts, {name: value.shape for name, value in arrays.items()}]).encode())
    for value in arrays.values():
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


def _read_picture(path: Path) -> Picture | None:
    """A picture that is kept and whole, or None; it becomes the youngest."""
    try:
        data = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        return None
    arrays = np.load(io.BytesIO(data[DIGEST:]), allow_pickle=False)
    return arrays["picture"], arrays["latents"]


def _write_picture(path: Path, picture: Picture) -> None:
    body = io.BytesIO()
    np.savez(body, picture=picture[0], latents=picture[1])
    with contextlib.suppress(OSError):
        write_bytes(path, hashlib.sha256(body.getvalue()).digest() + body.getvalue())


def _bound_folder(folder: Path) -> None:
    """Remove the oldest until the rest is below MOST_BYTES, and what a killed run left half-written."""
    sweep_parts(folder)
    with contextlib.suppress(OSError):
        files = sorted(((path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir()), reverse=True)
        total = 0
        for _, size, path in files:
            total += size
            if total > MOST_BYTES:
                path.unlink(missing_ok=True)
