"""Pictures as files: what they are called, what stands in a PNG about its making, and several as one.

A PNG says what drew it in text chunks: `prompt`, `seed`, `steps`, `student`, `bundle sha256`; `parameters`, one line in the form
that other tools show (AUTOMATIC1111's: the prompt, then `Steps: 1, Seed: 3, ...`); and all of it as JSON in `sprint-export`.
Other formats carry none of it.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import write_whole
from sprint_export.paths import is_folder

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.PngImagePlugin import PngInfo

    Pictures = npt.NDArray[np.uint8]

FIELDS = ("index", "seed", "prompt")  # that a name of -o may have in braces
LONGEST_NAME = 60  # letters of a prompt in a file's name
GAP = 4  # pixels between pictures of a grid
WHITE = 255
_FIELD = re.compile(r"\{(\w*)\}")
OF_FOLDER = "{index}-{prompt}.png"


@dataclass(frozen=True)
class Making:
    """What a picture was drawn from; enough to draw it again."""

    prompt: str
    seed: int
    steps: int
    size: tuple[int, int]  # width and height in pixels
    student: str
    target: str  # with its precision, e.g. onnx-int8
    bundle_sha256: str  # of bundle.json, which names all other files with theirs
    runs_on: str
    version: str  # of this package

    @property
    def parameters(self) -> str:
        """The line that other tools read."""
        width, height = self.size
        return (
            f"{self.prompt}\nSteps: {self.steps}, Seed: {self.seed}, Size: {width}x{height}, Model: {self.student}, "
            f"Model hash: {self.bundle_sha256[:10]}, Version: sprint-export {self.version} {self.target}"
        )


def list_chunks(making: Making) -> PngInfo:
    """A PNG's text chunks: tEXt where Latin-1 has all letters, else iTXt."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in (
        ("prompt", making.prompt),
        ("seed", str(making.seed)),
        ("steps", str(making.steps)),
        ("student", making.student),
        ("bundle sha256", making.bundle_sha256),
        ("parameters", making.parameters),
        ("sprint-export", json.dumps(asdict(making), ensure_ascii=False)),
    ):
        info.add_text(name, value)
    return info


def encode_png(picture: Pictures, making: Making) -> bytes:
    """A picture, uint8 [H, W, 3], as a PNG that says what it was drawn from."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", pnginfo=list_chunks(making))
    return buffer.getvalue()


def check_output(output: Path) -> None:
    """Refuse a name that no picture can have, before anything is drawn.

    Raises:
        InputError: its folder is not there, its suffix is no format's, or it has a field that there is not.
    """
    from PIL import Image

    folder = output.absolute() if is_folder(output) else output.absolute().parent
    if not is_folder(folder):
        raise InputError(f"-o {output}: the folder {folder} does not exist; make it first")
    if is_folder(output):
        return
    for field in _FIELD.findall(output.name):
        if field not in FIELDS:
            choices = ", ".join(f"{{{name}}}" for name in FIELDS)
            raise InputError(f"-o {output}: there is no field {{{field}}}; choose from: {choices}")
    Image.init()
    if Image.EXTENSION.get(output.suffix.lower()) not in Image.SAVE:
        raise InputError(f"-o {output}: cannot be written as a picture (unknown file extension); use a name that ends in .png")


def name_pictures(output: Path, prompts: Sequence[str], seeds: Sequence[int]) -> list[Path]:
    """A name for each picture: of one that of `output`, of several with `{index}`, `{seed}` or `{prompt}` filled in.

    Without a field a number is added; in a folder they are `0-a-red-circle.png`, ... .

    Raises:
        InputError: two pictures would have one name.
    """
    if is_folder(output):
        folder, pattern = output, OF_FOLDER
    else:
        folder, pattern = output.parent, output.name
        if len(prompts) > 1 and not _FIELD.search(pattern):
            pattern = f"{output.stem}-{{index}}{output.suffix}"
    width = len(str(len(prompts) - 1))
    names = []
    for index, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
        values = {"index": f"{index:0{width}}", "seed": str(seed), "prompt": shorten_prompt(prompt)}
        names.append(folder / _FIELD.sub(lambda field, values=values: values[field[1]], pattern))  # type: ignore[misc]  # bound now
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"-o {output} gives {twice} to two pictures; put {{index}} into it, or {{seed}} and {{prompt}}")
    return names


def shorten_prompt(prompt: str) -> str:
    """A prompt as part of a file's name: letters and digits of any script, dashes between."""
    words = re.sub(r"[\W_]+", "-", prompt).strip("-").lower()
    return words[:LONGEST_NAME].strip("-") or "picture"


def save_picture(picture: Pictures, path: Path, making: Making | None = None) -> bool:
    """Write a picture, in place of a file that is there; returns whether one was.

    Args:
        picture: uint8 [H, W, 3].
        path: its suffix says the format.
        making: goes into a PNG.

    Raises:
        InputError: the format has no such pictures, or it cannot be written there. MachineError: the disk is full.
    """
    from PIL import Image

    more: dict[str, Any] = {}
    if making is not None and path.suffix.lower() == ".png":
        more["pnginfo"] = list_chunks(making)
    is_replaced = path.exists()
    with clear_disk_errors(path, "choose another -o"):
        try:
            write_whole(path, lambda part: Image.fromarray(picture).save(part, **more))
        except (ValueError, OSError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            # the format's own: it has no such pictures
            raise InputError(f"-o {path}: cannot be written as a picture ({error}); use a name that ends in .png") from error
    return is_replaced


def join_pictures(pictures: Pictures, columns: int | None = None) -> Pictures:
    """uint8 [B, H, W, 3] as one picture with white between, row by row; default: about as many columns as rows."""
    import numpy as np

    count, height, width, _ = pictures.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), WHITE, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + GAP), (i % columns) * (width + GAP)
        grid[top : top + height, left : left + width] = picture
    return grid
