"""check_bundle: draw a bundle's reference again, here, and say how far the pictures are apart and where that begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.bundle_files import REFERENCE
from sprint_export.errors import BundleError, InputError
from sprint_export.export.bundle import find_file, locate, read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.pictures import read_picture
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.psnr import psnr_images
from sprint_export.runtimes.hub import find_bundle
from sprint_export.runtimes.open import choose_runtime, open_pipeline
from sprint_export.runtimes.reference import (
    FORMAT,
    MOST_FURTHER,
    Drawing,
    Wanted,
    describe_drawing,
    draw_wanted,
    hash_array,
    is_small,
)
from sprint_export.strict_json import parse_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from sprint_export.session import Pipeline

    Array = npt.NDArray[Any]

TOLERANCE = 2  # of 255: what other kernels for the same integers may leave
MOST_BYTES = 4 << 20
MOST_DRAWINGS = 4
INPUTS = ("ids", "mask", "noise")  # the same to the bit everywhere
CHECKING = Step("drawing", "reference")


@dataclass(frozen=True)
class StageCheck:
    """One call of a network, here and in the reference.

    Args:
        network: its role.
        step: of the loop, from 0; None where it runs once.
        is_same: its outputs are, to the bit.
        error: the largest difference of the outputs' first values, in standard deviations of the output.
    """

    network: str
    step: int | None
    is_same: bool
    error: float


@dataclass(frozen=True)
class Check:
    """One drawing of the reference beside the same one made here.

    Args:
        prompt: it was drawn from.
        seed: likewise.
        steps: of the sampler.
        largest: the largest difference of two pixels' values, of 255.
        mean: of all differences.
        psnr_db: of the picture, at most 100.
        stages: in the order they ran; none where other networks ran.
        begins: the first that is not the same to the bit (ids, mask, noise, a network, picture); "" where all is.
        before: what drew the reference.
        now: what drew it here.
        passed: whether `largest` is within the tolerance, and ids, mask and noise are the same.
    """

    prompt: str
    seed: int
    steps: int
    largest: int
    mean: float
    psnr_db: float
    stages: tuple[StageCheck, ...]
    begins: str
    before: str
    now: str
    passed: bool


def check_bundle(
    folder: str | Path, runtime: str | None = None, tolerance: int = TOLERANCE, progress: Progress = quiet
) -> tuple[Check, ...]:
    """Draw what `reference/` holds again and compare.

    Args:
        folder: the bundle, or its hub id.
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
    bundle = read_bundle(find_bundle(folder, progress))
    known = read_reference(bundle)
    pipeline = open_pipeline(bundle, choose_runtime(bundle, runtime), one_at_a_time=not is_small(bundle))
    return tuple(check for check, _ in check_drawings(bundle, pipeline, known, tolerance, progress))


def check_drawings(
    bundle: Bundle, pipeline: Pipeline, known: Sequence[Mapping[str, Any]], tolerance: int = TOLERANCE, progress: Progress = quiet
) -> Iterator[tuple[Check, Array]]:
    """A check of each drawing, with the picture that was drawn here, uint8 [H, W, 3].

    Args:
        bundle: whose reference it is.
        pipeline: over its files.
        known: drawings as `read_reference` and `read_further` give them.
        tolerance: as in `check_bundle`.
        progress: is told (step, done, total).

    Raises:
        InputError: a step count that the bundle was not made for. BundleError: a picture of the reference is damaged.
    """
    for before in track(known, CHECKING, progress):
        bundle.plan.rows(before["steps"])
        drawn = draw_wanted(pipeline, Wanted(before["prompt"], before["seed"], before["steps"]))
        assert drawn.picture is not None
        yield _compare(bundle, before, drawn, tolerance), drawn.picture


def read_reference(bundle: Bundle) -> list[dict[str, Any]]:
    """The drawings of `reference.json`: one prompt, at each step count.

    Raises:
        InputError: the bundle has none. BundleError: it is damaged.
    """
    return _read_drawings(bundle)[0]


def read_further(bundle: Bundle) -> list[dict[str, Any]]:
    """Its drawings of further prompts; bundles of large pictures, and of earlier versions, have none.

    Raises:
        InputError: the bundle has no reference. BundleError: it is damaged.
    """
    return _read_drawings(bundle)[1]


def _read_drawings(bundle: Bundle) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Of the prompt that every bundle has, and of further ones.

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
        further: list[dict[str, Any]] = value.get("further", [])
        if not 1 <= len(drawings) <= MOST_DRAWINGS:
            raise ValueError(f"it has {len(drawings)} drawings, expected 1 to {MOST_DRAWINGS}")
        if len(further) > MOST_FURTHER:
            raise ValueError(f"it has {len(further)} further drawings, expected at most {MOST_FURTHER}")
        for drawing in (*drawings, *further):
            _check_drawing(drawing)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is damaged ({str(error)[:300]}); copy or export the bundle again") from error
    return drawings, further


def _check_drawing(drawing: Mapping[str, Any]) -> None:
    kinds = {"prompt": str, "seed": int, "steps": int, "ids": list, "mask": list, "stages": list, "runtime": str}
    for name, kind in kinds.items():
        if type(drawing[name]) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")
    for name in ("file", "sha256"):
        if type(drawing["picture"][name]) is not str:
            raise ValueError(f"picture.{name} is no text")
    for stage in drawing["stages"]:
        if type(stage["network"]) is not str:
            raise ValueError("a stage names no network")
        for output in stage["outputs"].values():
            if type(output["sha256"]) is not str:
                raise ValueError(f"a digest of {stage['network']!r} is no text")
            if not all(type(value) in (int, float) for value in (output["std"], *output["first"])):
                raise ValueError(f"a value of {stage['network']!r} is no number")
    _ = drawing["noise"]["sha256"]


def _compare(bundle: Bundle, before: Mapping[str, Any], drawn: Drawing, tolerance: int) -> Check:
    import numpy as np

    assert drawn.picture is not None
    now = describe_drawing(drawn, before["picture"]["file"])
    wanted = read_pixels(bundle, before, drawn.picture.shape)
    apart = np.abs(drawn.picture.astype(int) - wanted)
    begins = _find_first(before, now)
    largest = int(apart.max())
    return Check(
        prompt=drawn.prompt,
        seed=drawn.seed,
        steps=drawn.steps,
        largest=largest,
        mean=float(apart.mean()),
        psnr_db=float(psnr_images(drawn.picture[None], wanted[None])[0]),
        stages=_compare_stages(before["stages"], now["stages"]),
        begins=begins,
        before=before["runtime"],
        now=drawn.description,
        passed=largest <= tolerance and begins not in INPUTS,
    )


def _compare_stages(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> tuple[StageCheck, ...]:
    """Of each call; none where other networks ran, or gave other outputs."""
    if [(each["network"], list(each["outputs"])) for each in before] != [
        (each["network"], list(each["outputs"])) for each in now
    ]:
        return ()
    return tuple(
        StageCheck(
            new["network"], new.get("step"), _digests(old) == _digests(new), _measure_error(old["outputs"], new["outputs"])
        )
        for old, new in zip(before, now, strict=True)
    )


def _measure_error(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """The largest difference of first values, in standard deviations; 0 where an output is the same everywhere."""
    return max(
        max((abs(a - b) for a, b in zip(old["first"], now[name]["first"], strict=False)), default=0.0) / (old["std"] or 1.0)
        for name, old in before.items()
    )


def read_pixels(bundle: Bundle, before: Mapping[str, Any], shape: tuple[int, ...]) -> Array:
    """The reference's pixels, int [H, W, 3], as its digest says.

    Raises:
        BundleError: the file is damaged, or of another shape or digest.
    """
    import numpy as np

    path = locate(bundle, before["picture"]["file"])
    try:
        pixels = np.asarray(read_picture("reference", path, shape[0] * shape[1]))
    except InputError as error:
        raise BundleError(f"{error}; copy or export the bundle again") from error
    if pixels.shape != shape or hash_array(pixels) != before["picture"]["sha256"]:
        raise BundleError(f"{path} is not the picture that {REFERENCE} says; copy or export the bundle again")
    return pixels.astype(int)


def _find_first(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs first, on the way from the prompt to the picture."""
    for name in INPUTS[:2]:
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
