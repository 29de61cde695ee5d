"""Sizes of pictures: the one a student was made for, or, where axes are free, every multiple of a step.

An axis of a TensorSpec is free where its size is a name: `height`, or `32*height` for the multiples of 32. With patches of 1 x 1
the transformer's latents are `height` x `width` and the decoder's picture is `32*height` x `32*width`; with patches of 2 x 2
`2*height` x `2*width` and `64*height` x `64*width`. The specs alone say which pictures there are. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sprint_export.errors import BundleError, InputError
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.student import TensorSpec

SIDES = ("height", "width")


def name_axis(multiple: int, name: str) -> str:
    """(1, "height") -> "height"; (32, "height") -> "32*height"."""
    return name if multiple == 1 else f"{multiple}*{name}"


def read_axis(size: str) -> tuple[int, str]:
    """The inverse of `name_axis`: "32*height" -> (32, "height").

    Raises:
        ValueError: it is no such name.
    """
    multiple, _, name = size.rpartition("*")
    if not name.isidentifier():
        raise ValueError(f"axis {size!r}: expected a name, or a number and a name, e.g. 'height' or '32*height'")
    return int(multiple or 1), name


@dataclass(frozen=True)
class PictureSizes:
    """The student's own size and what else can be drawn.

    Args:
        own: its latents' height and width.
        pixels: a latent position's width and height in the picture.
        step: latent positions that every side is a multiple of; None where no size but `own` can be drawn.
    """

    own: tuple[int, int]
    pixels: int
    step: int | None

    def choose(self, height: int | None, width: int | None) -> tuple[int, int]:
        """The latents' height and width for a picture of so many pixels; None: the student's own.

        Raises:
            InputError: that size cannot be drawn; the message names the nearest that can.
        """
        wanted = (height, width)
        sides = [side * self.pixels if given is None else given for given, side in zip(wanted, self.own, strict=True)]
        if sides != [side * self.pixels for side in self.own]:
            if self.step is None:
                raise InputError(
                    f"{_describe(*sides)}: this bundle draws {_describe(*(side * self.pixels for side in self.own))} only; "
                    "leave the size out, or export with --dynamic"
                )
            for name, given in zip(SIDES, sides, strict=True):
                self._check(name, given)
        return int(sides[0]) // self.pixels, int(sides[1]) // self.pixels

    def fits(self, latents: Sequence[int]) -> bool:
        """Whether latents of this height and width can be drawn."""
        return tuple(latents) == self.own or (
            self.step is not None and len(latents) == len(self.own) and all(n > 0 and n % self.step == 0 for n in latents)
        )

    def _check(self, name: str, given: int) -> None:
        assert self.step is not None
        unit = self.step * self.pixels
        if given <= 0 or given % unit:
            below = int(given // unit) * unit
            nearest = f"{below} and {below + unit}" if below > 0 else str(unit)
            raise InputError(f"{name}={given}: expected a positive multiple of {unit} pixels; the nearest: {nearest}")


def find_sizes(bundle: Bundle) -> PictureSizes:
    """Which pictures a bundle draws, from the interfaces of its transformer and decoder.

    Raises:
        BundleError: one of them is missing, or they do not fit each other.
    """
    records = {record.role: record for record in bundle.components}
    missing = [role for role in ("transformer", "vae_decoder") if role not in records]
    if missing:
        raise BundleError(f"{bundle.folder} has no {', '.join(missing)}, so no picture has a size; export all components to draw")
    latents = next(spec for spec in records["transformer"].inputs if spec.name == "latents")
    decoder = records["vae_decoder"]
    try:
        step, given, made = (_read_height(spec) for spec in (latents, decoder.inputs[0], decoder.outputs[0]))
        pixels, rest = divmod(made, given)
        if rest:
            raise ValueError(f"{made} rows of pixels for {given} of latents")
    except (ValueError, ArithmeticError, IndexError) as error:
        raise BundleError(
            f"{bundle.folder}: latents {list(latents.shape)} and picture {list(decoder.outputs[0].shape)} do not fit each other "
            f"({error}); export the student again"
        ) from error
    height, width = bundle.latent_shape[1:]
    return PictureSizes((height, width), pixels, step if isinstance(latents.shape[2], str) else None)


def _read_height(spec: TensorSpec) -> int:
    """The height of [B, C, h, w], or what it is a multiple of."""
    size = spec.shape[2]
    return size if isinstance(size, int) else read_axis(size)[0]


def _describe(height: int, width: int) -> str:
    return f"{height} x {width} pixels (height x width)"
