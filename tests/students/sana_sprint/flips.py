"""A student's folder with one value of one file changed, drawn by us and by stock diffusers.

What stock diffusers draws from the folder is the truth; a folder it cannot draw from is to be refused here too.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderDC, SanaSprintPipeline, SanaTransformer2DModel
from transformers import Gemma2Model

from sprint_export.errors import InputError
from sprint_export.libraries import hush
from sprint_export.noise import make_noise
from sprint_export.psnr import psnr_images
from sprint_export.specialize import specialize_student
from sprint_export.students import load_student
from tests.made_student import PROMPTS, draw_stock, open_torch

ENOUGH_DB = 60.0
EAGER = {"dtype": torch.float32, "attn_implementation": "eager"}
SCALARS: tuple[Any, ...] = (None, True, False, 0, 1, -1, 3, 10**6, 0.0, 0.5, -2.0, 1e30, "", "text", [], [1], {})
Picture = npt.NDArray[np.uint8]


def list_values(value: Any) -> list[Any]:
    """Values of every type to put in the place of one, its neighbours among them."""
    near: list[Any] = []
    if isinstance(value, bool):
        near = [not value, int(value)]
    elif isinstance(value, int | float):
        near = [value * 2, value / 2, value + 1, str(value), [value], -value]
    elif isinstance(value, str):
        near = [value.upper(), [value], value + "x"]
    elif isinstance(value, list):
        near = [value[:-1], [*value, *value[-1:]], value[::-1], {"0": value}, json.dumps(value)]
    return [other for other in [*near, *SCALARS] if repr(other) != repr(value)]


def set_value(file: Path, key: str, value: Any) -> None:
    """Change one key of a JSON object."""
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))


def copy_linked(folder: Path, to: Path, replaced: str) -> Path:
    """A student's folder whose files are hard links, but for one that may be changed."""
    for path in folder.rglob("*"):
        if path.is_file():
            target = to / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if str(path.relative_to(folder)) == replaced:
                shutil.copyfile(path, target)
            else:
                target.hardlink_to(path)
    return to


def draw_ours(folder: Path) -> Picture:
    """By the specialized networks, in torch.

    Raises:
        InputError: the folder is refused.
    """
    student = load_student(folder)
    return open_torch(specialize_student(student))(PROMPTS[:1], noise=make_noise(1, 1, 1, student.latent_shape))


def draw_theirs(folder: Path) -> Picture:
    """By stock diffusers from the folder itself, with the eager attention that applies Gemma-2's soft cap.

    Raises:
        Exception: diffusers cannot.
    """
    with hush(), warnings.catch_warnings():
        parts: dict[str, Any] = {
            "text_encoder": Gemma2Model.from_pretrained(
                folder / "text_encoder", **EAGER, **_name_variant(folder / "text_encoder")
            )
        }
        for name, cls in (("transformer", SanaTransformer2DModel), ("vae", AutoencoderDC)):
            if variant := _name_variant(folder / name):
                parts[name] = cls.from_pretrained(folder / name, torch_dtype=torch.float32, **variant)
        pipeline = SanaSprintPipeline.from_pretrained(folder, torch_dtype=torch.float32, **parts)
        pipeline.set_progress_bar_config(disable=True)
        config = pipeline.transformer.config
        noise = make_noise(1, 1, 1, (config.in_channels, config.sample_size, config.sample_size))
        return draw_stock(pipeline, PROMPTS[0], noise, config.sample_size * pipeline.vae_scale_factor)[1]


def _name_variant(folder: Path) -> dict[str, str]:
    """What a user of stock diffusers says where the weights are there as fp16 only."""
    names = {path.name.partition(".")[2] for path in folder.glob("*.safetensors")}
    return {"variant": "fp16"} if names == {"fp16.safetensors"} else {}


def compare(ours: Picture, theirs: Picture) -> float:
    """PSNR in decibels; 0 where even the shapes differ."""
    return float(psnr_images(ours, theirs)[0]) if ours.shape == theirs.shape else 0.0


def list_flips(folder: Path, files: tuple[str, ...]) -> Iterator[tuple[str, str, Any]]:
    """Every key of these files with every value to try."""
    for file in files:
        for key, value in json.loads((folder / file).read_text()).items():
            yield from ((file, key, other) for other in list_values(value))


def judge(folder: Path) -> str:
    """Right, refused, or in words what is wrong."""
    try:
        ours = draw_ours(folder)
    except InputError as error:
        return "refused" if "\n" not in str(error) and len(str(error)) < 2000 else f"not one line: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    try:
        theirs = draw_theirs(folder)
    except Exception as error:
        return f"drawn where stock refuses ({type(error).__name__}: {str(error)[:200]})"
    decibels = compare(ours, theirs)
    return "right" if decibels >= ENOUGH_DB else f"{decibels:.1f} dB from stock"
