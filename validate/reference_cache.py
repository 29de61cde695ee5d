"""The reference's pictures, kept on disk: validating again, or with a larger count, draws only what is new.

A file is one picture: sha256 of the rest, picture uint8 [H, W, 3], latents float32 [C, h, w]. Its name is the sha256 of all that
decides it: student, prompt, noise, steps, guidance, versions of the libraries, the code that draws, the CPU's instructions. A
damaged file is drawn again; the folder is kept below MOST_BYTES, oldest out first. Where it cannot be written, nothing is kept.
Seconds are of pictures drawn in this run alone: a kept one took none.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sprint_export.cache import cache_folder
from sprint_export.files import sweep_parts, write_whole
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, quiet
from sprint_export.validate import reference
from sprint_export.validate.reference import Reference, draw_reference

LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers")
MOST_BYTES = 2_000_000_000
DIGEST = hashlib.sha256().digest_size

Picture = tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]  # uint8 [H, W, 3], float32 [C, h, w]


def recall_reference(
    student: Student,
    prompts: Sequence[str],
    noise: npt.NDArray[np.float32],
    steps: int,
    guidance: float,
    progress: Progress = quiet,
    is_fresh: bool = False,
) -> Reference:
    """What `draw_reference` draws, of which only what is not kept yet is drawn.

    Args:
        student: likewise, as all arguments up to `progress`.
        prompts: B texts.
        noise: unit variance float32 [steps, B, C, h, w].
        steps: as the bundle was specialized.
        guidance: likewise.
        progress: is told (step, done, total).
        is_fresh: draw all of them, for their seconds; they are kept.
    """
    folder, drawing = reference_folder(), _describe_drawing(student, steps, guidance)
    paths = [folder / _hash_picture(drawing, prompt, noise[:, i]) for i, prompt in enumerate(prompts)]
    shape = (int(noise.shape[2]), int(noise.shape[3]), int(noise.shape[4]))
    found = [None if is_fresh else _read_picture(path, shape) for path in paths]
    missing = [i for i, picture in enumerate(found) if picture is None]
    seconds: dict[str, list[float]] = {}
    if missing:
        drawn = draw_reference(student, [prompts[i] for i in missing], noise[:, missing], steps, guidance, progress)
        seconds = drawn.seconds
        for row, i in enumerate(missing):
            picture = drawn.pictures[row], drawn.latents[row]
            found[i] = picture
            _write_picture(paths[i], picture)
        _bound_folder(folder)
    kept = [picture for picture in found if picture is not None]
    return Reference(np.stack([picture for picture, _ in kept]), np.stack([latents for _, latents in kept]), seconds)


def reference_folder() -> Path:
    """Where pictures are kept."""
    return cache_folder() / "reference"


def _describe_drawing(student: Student, steps: int, guidance: float) -> str:
    """All that decides a picture beside its prompt and noise."""
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    assert student.make_reference is not None
    family = inspect.getsourcefile(student.make_reference)
    code = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in (reference.__file__, family) if path]
    maker = f"{student.make_reference.__module__}.{student.make_reference.__qualname__}"
    cpu = torch.backends.cpu.get_cpu_capability()
    return json.dumps([student.fingerprint, student.source, steps, guidance, "float32", versions, code, maker, cpu])


def _hash_picture(drawing: str, prompt: str, noise: npt.NDArray[np.float32]) -> str:
    total = hashlib.sha256(json.dumps([drawing, prompt, noise.shape]).encode())
    total.update(np.ascontiguousarray(noise, np.float32).tobytes())
    return total.hexdigest()


def _read_picture(path: Path, latent_shape: tuple[int, int, int]) -> Picture | None:
    """A picture that is kept and whole, or None; it becomes the youngest."""
    try:
        data = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    size = 4 * int(np.prod(latent_shape))
    body = data[DIGEST:]
    pixels, rest = divmod(len(body) - size, 3 * latent_shape[1] * latent_shape[2])
    side = round(max(pixels, 0) ** 0.5)  # pixels of the picture to one of the latents
    if rest or side < 1 or side**2 != pixels or hashlib.sha256(body).digest() != data[:DIGEST]:
        return None
    picture = np.frombuffer(body[:-size], np.uint8).reshape(latent_shape[1] * side, latent_shape[2] * side, 3)
    return picture, np.frombuffer(body[-size:], np.float32).reshape(latent_shape)


def _write_picture(path: Path, picture: Picture) -> None:
    body = np.ascontiguousarray(picture[0], np.uint8).tobytes() + np.ascontiguousarray(picture[1], np.float32).tobytes()
    with contextlib.suppress(OSError):
        write_whole(path, lambda part: part.write_bytes(hashlib.sha256(body).digest() + body))


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
