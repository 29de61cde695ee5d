"""The Protocol of an image metric, and what it is given and gives. No torch.

`validate/image_metrics/<file>.py` declares one as `METRIC = <Class>(name="<name>")` and imports its libraries inside functions:
metrics are listed without them.

    paired       exported against reference, a value for each picture        psnr_db, ssim, lpips, dists
    of prompts   both sides alone, and reference minus exported, likewise     clip_score, scorer processes
    of sets      one value for all pictures                                   fid, cmmd
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from sprint_export.compute import CPU, Compute
from sprint_export.registry import list_members, load_member

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sprint_export.validate.prompt_sets.prompt_set import Question, WantedScene
    from sprint_export.validate.rows import Rows

    UInt8 = npt.NDArray[np.uint8]
    Float64 = npt.NDArray[np.float64]

EXTRA = "metrics"  # of pyproject.toml: the libraries behind these files
Better = Literal["higher", "lower"]
Kind = Literal["mean", "set", "rate", "loss"]


@dataclass(frozen=True)
class Comparison:
    """Pictures of two sides, drawn from the same prompts and noise.

    Args:
        exported: uint8 [B, H, W, 3]; a metric reads some at a time.
        reference: likewise.
        prompts: B texts.
        originals: pictures that came with the prompts, by place; empty where none did.
        scenes: what each picture shall show, likewise.
        questions: what to ask of each, likewise.
    """

    exported: Rows
    reference: Rows
    prompts: Sequence[str]
    originals: Sequence[Path] = ()
    scenes: Sequence[WantedScene] = ()
    questions: Sequence[Sequence[Question]] = ()


@dataclass(frozen=True)
class Setting:
    """Where a metric finds its weights, and where it computes.

    Args:
        weights: a folder of the user's, asked before the caches of torch and of the hub.
        compute: the device.
    """

    weights: Path | None = None
    compute: Compute = field(default=CPU)


@dataclass(frozen=True)
class Scores:
    """What becomes one row of a report.

    Args:
        row: the row's name.
        unit: of the values; "" where they have none.
        values: float64 [B], of which the row is the mean, nan where a picture has none; [1] of a value of the whole set.
        note: what was compared.
        kind: "mean"; "set" of one value of all pictures; "rate" of values 0 or 100; "loss" of the difference of two rates.
        without: float64 [G] of a set: its value without the pictures of each of some groups, which its interval stands on.
    """

    row: str
    unit: str
    values: Float64
    note: str = ""
    kind: Kind = "mean"
    without: Float64 | None = None


class UnmeasuredError(Exception):
    """A metric could not be measured: the sentence says what was found and what would help."""


class ImageMetric(Protocol):
    """One metric of pictures."""

    name: str
    title: str  # what it is, whose, which year
    unit: str
    better: Better
    needs: str = ""  # weights and libraries, in words; "" where a plain install has all
    is_always: bool = False  # every report has it, and validation itself makes its row

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of its rows."""
        return (self.name,)

    def find_fault(self, setting: Setting) -> str | None:
        """Why it cannot be measured here: what was looked for and how to get it; None where it can. No weights are read."""
        return None

    @abstractmethod
    def measure(self, comparison: Comparison, setting: Setting) -> list[Scores]:
        """Its rows.

        Raises:
            UnmeasuredError: the pictures are too few or too small for it, or its weights are damaged.
        """


def list_image_metrics() -> tuple[ImageMetric, ...]:
    """All that there are, by name."""
    return tuple(load_image_metric(name) for name in list_members("metric"))


def load_image_metric(name: str) -> ImageMetric:
    """The one of this name.

    Raises:
        InputError: there is none; the message lists them.
    """
    metric: ImageMetric = load_member("metric", name).METRIC
    return metric


def name_sides(name: str) -> tuple[str, str, str]:
    """Rows of a metric that each side has alone: of the exported, of the reference, of the reference minus the exported."""
    return name, f"{name}_reference", f"{name}_drop"


def compare_sides(name: str, unit: str, exported: Float64, reference: Float64, note: str, is_rate: bool = False) -> list[Scores]:
    """Those three rows of values float64 [B] a side, of a rate 0 or 100 each."""
    ours, theirs, drop = name_sides(name)
    kind: Kind = "rate" if is_rate else "mean"
    of_drop: Kind = "loss" if is_rate else "mean"
    return [
        Scores(ours, unit, exported, f"exported: {note}", kind),
        Scores(theirs, unit, reference, f"PyTorch float32, same noise: {note}", kind),
        Scores(drop, unit, reference - exported, "PyTorch float32 minus exported, picture by picture", of_drop),
    ]
