"""Parts: what changes a checkpoint, or completes one that holds its denoiser alone. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from sprint_export.errors import InputError


@dataclass(frozen=True)
class Lora:
    """Low-rank changes of weights, W + scale * B A, how much of them is added, and the hub id they came from, if any."""

    file: Path
    scale: float = 1.0
    hub_id: str = ""

    @property
    def said(self) -> str:
        """What errors call it."""
        return self.hub_id or self.file.as_posix()

    @property
    def name(self) -> str:
        """What notes of a bundle call it: no folder of this machine."""
        return self.hub_id or self.file.name


@dataclass(frozen=True)
class Parts:
    """What a student is made of beside its checkpoint: names and hub ids as a user gives them, paths once they are found.

    `lora` is added to its weights in this order; `decoder` takes the place of the checkpoint's own. `vae` and `text_encoder`
    (with its tokenizer) complete a checkpoint that has none. `controlnet` is added to the networks.
    """

    lora: tuple[Lora, ...] = ()
    decoder: str | Path | None = None
    vae: str | Path | None = None
    text_encoder: str | Path | None = None
    controlnet: str | Path | None = None

    @property
    def folders(self) -> dict[str, str | Path]:
        """What was given of decoder, vae, text_encoder and controlnet, by field."""
        names = ("decoder", "vae", "text_encoder", "controlnet")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


NO_PARTS = Parts()


def read_lora(text: str) -> Lora:
    """`FILE` or `FILE:SCALE`, a path or a hub id -> a Lora; what follows the last colon is a scale where it is a number.

    Raises:
        InputError: the scale is not finite, or there is no name before it.
    """
    name, colon, last = text.rpartition(":")
    try:
        file, scale = (name, float(last)) if colon else (text, 1.0)
    except ValueError:  # a colon of the file's own name
        file, scale = text, 1.0
    if not file or not math.isfinite(scale):
        raise InputError(f"--lora {text}: expected FILE or FILE:SCALE with a finite scale, e.g. style.safetensors:0.8")
    return Lora(Path(file), scale)
