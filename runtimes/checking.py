"""check_bundle: draw a bundle's reference again, here, and say how far the pictures are apart and where that begins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.bundle_files import REFERENCE
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import find_file, locate, read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.pictures import read_picture
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.runtimes.reference import Drawing, describe_drawing, draw_steps, hash_array, is_small
from sprint_export.strict_json import parse_json

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

FORMAT = 1
TOLERANCE = 2  # of 255: what other kernels for the same integers may leave
MOST_BYTES = 4 << 20
MOST_DRAWINGS = 4
CHECKING = Step("drawing", "reference")


@dataclass(frozen=True)
class Check:
    """One drawing of the reference beside the same one made here.

    Args:
        steps: of the sampler.
        largest: the largest difference of two pixels' values, of 255.
        mean: of all differences.
        begins: the first that is not the same to the bit (ids, mask, noise, a network, picture); "" where all is.
        before: what drew the reference.
        now: what drew it here.
        passed: whether `largest` is within the tolerance, and ids, mask and noise are the same.
    """

    steps: int
    largest: int
    mean: float
    begins: str
    before: str
    now: str
    passed: bool


def check_bundle(
    folder: str | Path, runtime: str | None = None, tolerance: int = TOLERANCE, progress: Progress = quiet
) -> tuple[Check, ...]:
    """Draw what `reference/` holds again and compare.

    Args:
        folder: the bundle.
        runtime: as in `open_bundle`.
        tolerance: how far a pixel's value may be apart, of 255.
        progress: is told (step, done, total).

    Returns:
        One check a drawing.

    Raises:
        InputError: no bundle there, it has no reference, or the tolerance is none.
        BundleError: its files are damaged. MachineError: nothing here can run it.
    """
    if not 0 <= tolerance <= 255:
        raise InputError(f"tolerance={tolerance}: expected 0 to 255")
    bundle = read_bundle(Path(folder))
    known = read_reference(bundle)
    pipeline = open_pipeline(bundle, choose_runtime(bundle, runtime), one_at_a_time=not is_small(bundle))
    checks = []
    for before in track(known, CHECKING, progress):
        bundle.plan.rows(before["steps"])
        drawn = draw_steps(pipeline, before["prompt"], before["steps"], before["seed"])
        checks.append(_compare(bundle, before, drawn, tolerance))
    return tuple(checks)


def read_reference(bundle: Bundle) -> list[dict[str, Any]]:
    """The drawings of `reference.json`.

    Raises:
        InputError: the bundle has none. BundleError: it is damaged.
    """
    if find_file(bundle, REFERENCE) is None:
        raise InputError(
            f"{bundle.folder} has no {REFERENCE}: nothing could run it where it was made; export it again to draw one"
        )
    path = locate(bundle, REFERENCE)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        value = parse_json(path.read_bytes())
        if value["format"] != FORMAT:
            raise ValueError(f"it has format {value['format']!r}, this version reads {FORMAT}")
        drawings: list[dict[str, Any]] = value["drawings"]
        if not 1 <= len(drawings) <= MOST_DRAWINGS:
            raise ValueError(f"it has {len(drawings)} drawings, expected 1 to {MOST_DRAWINGS}")
        for drawing in drawings:
            _check_drawing(drawing)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is damaged ({str(error)[:300]}); copy or export the bundle again") from error
    return drawings


def _check_drawing(drawing: Mapping[str, Any]) -> None:
    kinds = {"prompt": str, "seed": int, "steps": int, "ids": list, "mask": list, "stages": list, "runtime": str}
    for name, kind in kinds.items():
        if type(drawing[name]) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")
    for name in ("file", "sha256"):
        if type(drawing["picture"][name]) is not str:
            raise ValueError(f"picture.{name} is no text")
    for stage in drawing["stages"]:
        if not all(type(output["sha256"]) is str for output in stage["outputs"].values()):
            raise ValueError(f"a digest of {stage['network']!r} is no text")
    _ = drawing["noise"]["sha256"]


def _compare(bundle: Bundle, before: Mapping[str, Any], drawn: Drawing, tolerance: int) -> Check:
    import numpy as np

    assert drawn.picture is not None
    now = describe_drawing(drawn, before["prompt"], before["picture"]["file"], before["seed"])
    apart = np.abs(drawn.picture.astype(int) - _read_pixels(bundle, before, drawn.picture.shape))
    begins = _find_first(before, now)
    largest = int(apart.max())
    passed = largest <= tolerance and begins not in ("ids", "mask", "noise")
    return Check(drawn.steps, largest, float(apart.mean()), begins, before["runtime"], drawn.description, passed)


def _read_pixels(bundle: Bundle, before: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    """The reference's pixels, as its digest says."""
    import numpy as np

    path = locate(bundle, before["picture"]["file"])
    try:
        pixels = np.asarray(read_picture("reference", path))
    except InputError as error:
        raise BundleError(f"{error}; copy or export the bundle again") from error
    if pixels.shape != shape or hash_array(pixels) != before["picture"]["sha256"]:
        raise BundleError(f"{path} is not the picture that {REFERENCE} says; copy or export the bundle again")
    return pixels.astype(int)


def _find_first(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs first, on the way from the prompt to the picture."""
    for name in ("ids", "mask"):
        if before[name] != now[name]:
            return name
    if before["noise"]["sha256"] != now["noise"]["sha256"]:
        return "noise"
    if len(before["stages"]) != len(now["stages"]):
        return "the networks that ran"
    for old, new in zip(before["stages"], now["stages"], strict=True):
        name = new["network"] + (f" in step {new['step'] + 1}" if "step" in new else "")
        if old["network"] != new["network"] or _digests(old) != _digests(new):
            return str(name)
    return "" if before["picture"]["sha256"] == now["picture"]["sha256"] else "picture"


def _digests(stage: Mapping[str, Any]) -> dict[str, str]:
    return {name: output["sha256"] for name, output in stage["outputs"].items()}
