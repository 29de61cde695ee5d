"""Pictures that a caller gives, as networks read them: resized to the picture that is drawn, float32 in [-1, 1].

As diffusers' VaeImageProcessor does: turned as the camera says, RGB, resized by Lanczos to height and width whatever the
picture's own shape, [0, 255] -> [-1, 1]. Along rows first, then along columns, each rounded to 8 bits: programs in other
languages do the same, and so does every Pillow when it is asked for one direction at a time (both at once, 13.0 takes columns
first where that is less work: 1 of 255 apart).
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sprint_export.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    Given: TypeAlias = str | Path | Image | npt.NDArray[np.uint8]  # one picture
    SomeGiven: TypeAlias = Given | Sequence[Given]  # one for all prompts, or one for each

MOST_PIXELS = 1 << 27  # of a file: 134 megapixels
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # others have programs or more readers behind them, e.g. EPS Ghostscript
DAMAGED = (
    OSError,
    ValueError,
    SyntaxError,
    IndexError,
    KeyError,
    TypeError,
    ArithmeticError,
    struct.error,
)  # Pillow, of such files


def read_pictures(name: str, given: SomeGiven, count: int, height: int, width: int) -> npt.NDArray[np.float32]:
    """Pictures for `count` prompts, float32 [1 or count, 3, height, width] in [-1, 1].

    Args:
        name: what errors call it.
        given: a file, a PIL image or uint8 [H, W, 3], for all prompts; or a list of these, or uint8 [B, H, W, 3], one a prompt.
        count: of the prompts.
        height: pixels.
        width: pixels.

    Raises:
        InputError: a file is missing or no picture, an array has another shape, or there are neither one nor `count` of them.
    """
    import numpy as np

    is_several = isinstance(given, list | tuple) or np.ndim(given if isinstance(given, np.ndarray) else 0) == 4
    each: list[Given] = list(given) if is_several else [given]  # type: ignore[arg-type, list-item]  # of several, of one
    if len(each) not in (1, count):
        raise InputError(f"{name}: {len(each)} pictures for {count} prompts; expected one for all, or one for each")
    return np.stack([_fit(_open(name, picture), height, width) for picture in each])


def read_picture(name: str, path: str | Path, most_pixels: int = MOST_PIXELS) -> Image:
    """A picture file in RGB, turned as its camera says.

    Args:
        name: what errors call it.
        path: a PNG, JPEG, WebP, BMP, GIF or TIFF.
        most_pixels: what its head may say; more is not read.

    Raises:
        InputError: there is no such file, it is no picture, it is damaged, or has more pixels.
    """
    from PIL import ImageOps

    with open_picture(name, path) as file:
        if file.width * file.height > most_pixels:
            raise InputError(f"{name} {path} has {file.width} x {file.height} pixels, expected at most {most_pixels:,}")
        return _to_rgb(ImageOps.exif_transpose(file))


@contextmanager
def open_picture(name: str, path: str | Path, expected: str = "a whole PNG or JPEG") -> Iterator[Image]:
    """A picture file whose head was read; what is found to be wrong with it within is an InputError too, which says `expected`.

    Raises:
        InputError: there is no such file, it is of none of FORMATS, or it is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    if not Path(path).is_file():
        raise InputError(f"{name} {path}: there is no such file; expected a picture, e.g. a PNG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are looked at, and of what is odd in a file
            with Image.open(path, formats=FORMATS) as file:
                yield file
    except UnidentifiedImageError as error:
        raise InputError(f"{name} {path} is no picture that can be read; expected e.g. a PNG or a JPEG") from error
    except (*DAMAGED, Image.DecompressionBombError) as error:  # a file that ends early, or lies
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{name} {path} is a damaged picture ({said}); expected {expected}") from error


def _open(name: str, picture: Given) -> Image:
    """One of what a caller may give, in RGB."""
    import numpy as np
    from PIL import Image

    if isinstance(picture, str | Path):
        return read_picture(name, picture)
    if isinstance(picture, Image.Image):
        return _to_rgb(picture)
    shape, dtype = getattr(picture, "shape", None), getattr(picture, "dtype", None)
    if dtype != np.uint8 or shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        said = type(picture).__name__ if shape is None else f"{dtype} {list(shape)}"
        raise InputError(f"{name}: found {said}; expected a file, a PIL image or uint8 [height, width, 3]")
    return Image.fromarray(picture)


def _to_rgb(picture: Image) -> Image:
    """In RGB; of 16 bits of grey, a depth map's, the upper 8: Pillow's own conversion makes all above 255 white."""
    import numpy as np
    from PIL import Image

    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    return picture.convert("RGB")


def _fit(picture: Image, height: int, width: int) -> npt.NDArray[np.float32]:
    import numpy as np
    from PIL import Image

    for size in ((width, picture.height), (width, height)):
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
    values = np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(255)
    fitted: npt.NDArray[np.float32] = np.float32(2) * values - np.float32(1)
    return fitted
