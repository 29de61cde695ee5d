"""Sizes of pictures: the one a student was made for, or, where axes are free, every multiple of a step.

An axis of a TensorSpec is free where its size is a name: `height`, or `32*height` for the multiples of 32. With patches of 1 x 1
the sampler's state is `height` x `width` and the picture is `32*height` x `32*width`; with patches of 2 x 2 `2*height` x
`2*width` and `64*height` x `64*width`. The specs alone say which pictures there are, and which axes of the state grow with them;
a state of one size may have any axes. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sprint_export.errors import BundleError, InputError
from sprint_export.nouns.bundle import Bundle

Shape = Sequence[int | str]
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


def fill_axes(shape: Shape, units: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with its free axes filled in: "32*height" is 32 of the units of `height`."""
    return tuple(size if isinstance(size, int) else (axis := read_axis(size))[0] * units[axis[1]] for size in shape)


def find_units(shape: Shape, sizes: Sequence[int]) -> dict[str, int] | None:
    """The inverse of `fill_axes`: units of each free axis where a shape is filled to these sizes; None: it cannot be."""
    units: dict[str, int] = {}
    for size, wanted in zip(shape, sizes, strict=False):
        multiple, name = read_axis(size) if isinstance(size, str) else (size, "")
        units.setdefault(name, wanted // multiple if name else 1)
    fits = len(shape) == len(sizes) and all(n > 0 for n in units.values()) and fill_axes(shape, units) == tuple(sizes)
    return {name: n for name, n in units.items() if name} if fits else None


@dataclass(frozen=True)
class PictureSizes:
    """The student's own size and what else can be drawn.

    Args:
        own: the sampler's state for the student's own picture, without the batch.
        state: the same, with names for the axes that are free.
        picture: height and width in pixels, with names where they are free.
    """

    own: tuple[int, ...]
    state: tuple[int | str, ...]
    picture: tuple[int | str, int | str]

    @property
    def pixels(self) -> tuple[int, int]:
        """Height and width of the student's own picture."""
        height, width = fill_axes(self.picture, find_units(self.state, self.own) or {})
        return height, width

    def choose(self, height: int | None, width: int | None) -> tuple[int, ...]:
        """The state's shape for a picture of so many pixels; None: the student's own.

        Raises:
            InputError: that size cannot be drawn; the message names the nearest that can.
        """
        sides = [own if side is None else side for side, own in zip((height, width), self.pixels, strict=True)]
        if sides == list(self.pixels):
            return self.own
        if not all(isinstance(size, str) for size in self.picture):
            raise InputError(
                f"{_describe(*sides)}: this bundle draws {_describe(*self.pixels)} only; "
                "leave the size out, or export with --dynamic"
            )
        return fill_axes(self.state, dict(_count_units(*pair) for pair in zip(SIDES, self.picture, sides, strict=True)))

    def fits(self, state: Sequence[int]) -> bool:
        """Whether a state of this shape can be drawn."""
        return find_units(self.state, state) is not None


def _count_units(side: str, axis: int | str, pixels: int) -> tuple[str, int]:
    """The name of a free axis, and how many of its units make so many pixels."""
    unit, name = read_axis(str(axis))
    if pixels <= 0 or pixels % unit:
        below = int(pixels // unit) * unit
        nearest = f"{below} and {below + unit}" if below > 0 else str(unit)
        raise InputError(f"{side}={pixels}: expected a positive multiple of {unit} pixels; the nearest: {nearest}")
    return name, int(pixels) // unit


def find_sizes(bundle: Bundle) -> PictureSizes:
    """Which pictures a bundle draws, from the interfaces of its networks.

    Raises:
        BundleError: a network is missing, or they do not fit each other.
    """
    networks = {record.role: record for record in bundle.components}
    if missing := bundle.chain.list_missing(networks):
        raise BundleError(f"{bundle.folder} has no {', '.join(missing)}, so no picture has a size; export all components to draw")
    names = bundle.chain.names
    state, picture = (bundle.chain.find_spec(name, networks) for name in (names.state, names.picture))
    shapes = [list(spec.shape) if spec else None for spec in (state, picture)]
    if state is None or picture is None or len(picture.shape) != 4:
        raise BundleError(f"{bundle.folder}: {names.state} {shapes[0]} and {names.picture} {shapes[1]} make no picture")
    sizes = PictureSizes(bundle.latent_shape, state.shape[1:], (picture.shape[2], picture.shape[3]))
    try:
        if not sizes.fits(sizes.own):
            raise ValueError(f"the student's own is {list(sizes.own)}")
        _ = sizes.pixels
    except (ValueError, ArithmeticError, KeyError) as error:
        raise BundleError(
            f"{bundle.folder}: {names.state} {shapes[0]} and {names.picture} {shapes[1]} do not fit each other ({error}); "
            "export the student again"
        ) from error
    return sizes


def _describe(height: int, width: int) -> str:
    return f"{height} x {width} pixels (height x width)"
