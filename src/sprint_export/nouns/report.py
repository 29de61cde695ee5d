"""What a validation demands and measured: frozen dataclasses that turn into JSON and back (json_forms.py), no libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Verdict = Literal["met", "not met", "not decided"]
FORMAT = 2  # of report.json; 1 had no number


@dataclass(frozen=True)
class Measurement:
    """One row of a report. `limit` and `verdict` are None where nothing is demanded.

    `interval` is where the value over all prompts lies with 95 % confidence, as far as the drawn ones say; None where they say
    nothing, or the value is no mean and no rate. `needed` is how many pictures would decide a gate that is not decided.
    """

    metric: str
    value: float
    unit: str
    component: str = ""
    limit: str | None = None
    verdict: Verdict | None = None
    note: str = ""
    interval: tuple[float, float] | None = None
    needed: int | None = None

    @property
    def passed(self) -> bool | None:
        """True where the gates of this row are met, None where there are none."""
        return None if self.verdict is None else self.verdict == "met"


@dataclass(frozen=True)
class Gate:
    """A demand on one metric; it holds for every row of that name."""

    metric: str
    sign: str
    limit: float
    reason: str

    @property
    def text(self) -> str:
        """As the user would write it."""
        return f"{self.metric}{self.sign}{self.limit:g}"


@dataclass(frozen=True)
class Metric:
    """The name of a row; one that ends in * stands for all that begin so. `needs` says in words what the row takes.

    `adds_up`: the sum over networks says what it says of all of them, e.g. of bytes, and not of a largest value.
    """

    name: str
    needs: str = ""
    adds_up: bool = False

    def fits(self, name: str) -> bool:
        """Whether a row of this name is one of this metric's."""
        return name.startswith(self.name[:-1]) and len(name) >= len(self.name) if self.name.endswith("*") else name == self.name


@dataclass(frozen=True)
class Finding:
    """What a session noticed by itself while it ran; of a network in parts the sum counts, or the largest."""

    metric: str
    value: float
    unit: str
    note: str = ""
    is_largest: bool = False

    def join(self, other: Finding) -> Finding:
        """Both as one: the note of the first that found something."""
        value = max(self.value, other.value) if self.is_largest else self.value + other.value
        return replace(self if self.value else other, value=value)

    def as_row(self, role: str) -> Measurement:
        """The row of a report."""
        return Measurement(self.metric, self.value, self.unit, role, note=self.note)


@dataclass(frozen=True)
class PictureRow:
    """One drawn prompt.

    Args:
        place: among the prompts, from 0; the noise depends on it.
        prompt: as it was drawn.
        figures: values by the metric's name: psnr_db, ssim, lpips, ...
        flipped: the judges' metrics on which the exported picture and PyTorch's differ.
    """

    place: int
    prompt: str
    figures: Mapping[str, float]
    flipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class BlockError:
    """The output of one block, exported against PyTorch in float32, the network's inputs being the same.

    Args:
        network: the component's role; `prompt` for the ids that go into the first one.
        block: the module's path in it, or the name of what the network gives.
        place: among the network's blocks, from 0, in the order they run.
        psnr_db: peak is the largest magnitude of PyTorch's output.
        relative_error: root mean square of the differences over that of PyTorch's output; of ids, the share that differs.
        rounded_psnr_db: of torch with the same rounding, against float32: what the recipe alone does.
        departs: the first block of its network that is clearly further off than its rounding explains, or holds a layer whose
            weights differ from what quantization meant.
    """

    network: str
    block: str
    place: int
    psnr_db: float
    relative_error: float
    rounded_psnr_db: float | None = None
    departs: bool = False


@dataclass(frozen=True)
class Report:
    """What validation measured.

    Args:
        bundle: its folder.
        target: with the precision, as the user writes it: trt-fp8.
        runtime: that ran it.
        machine: on which.
        prompts: how many were drawn.
        rows: one of each metric and component.
        seconds: the drawing took.
        pictures: one of each drawn prompt.
        blocks: of the first prompt, in the order they run.
        unchecked: a sentence on each thing that could not be checked here.
    """

    bundle: str
    target: str
    runtime: str
    machine: str
    prompts: int
    rows: tuple[Measurement, ...]
    seconds: float = 0.0
    pictures: tuple[PictureRow, ...] = ()
    blocks: tuple[BlockError, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Of all gates together: one that is not met outweighs one that is not decided."""
        verdicts = {row.verdict for row in self.rows}
        return "not met" if "not met" in verdicts else "not decided" if "not decided" in verdicts else "met"

    @property
    def passed(self) -> bool:
        """True when every gate is met."""
        return self.verdict == "met"
