"""The frontier of a recipe search: what each decibel costs. Kept in the bundle as `frontier.json` and drawn as `frontier.png`.

The curve is predicted: the float graph's own error plus the sum of the layers' errors, each measured alone, in the best mix of
that cost. The points are measured on whole pictures: presets, uniform precisions, mixes that the search tried, what was chosen.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export.errors import BundleError
from sprint_export.json_forms import from_json, to_json
from sprint_export.libraries import require
from sprint_export.strict_json import parse_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

JSON, PICTURE = "frontier.json", "frontier.png"
MARKS = tuple(zip("sD^vPXhp", ("tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive", "tab:cyan") * 2, strict=False))
HEADROOM_DB = 12.0  # above the gate; a float graph at 70 to 100 dB would press everything else to the floor


@dataclass(frozen=True)
class Point:
    """A measured mix: its cost, the mean PSNR of the search's pictures and that mean's standard error."""

    name: str
    cost: float
    psnr_db: float
    error_db: float


@dataclass(frozen=True)
class Frontier:
    """What a search found, to show.

    `unit` is that of all costs, "ms" or "bytes"; `uniform` are float, the presets and other precisions for all layers; `mixes`
    what the search tried; `predicted` pairs (cost, PSNR); `layers` counts the chosen mix's layers by precision; `notes` say how
    costs were reckoned and what was simplified.
    """

    title: str
    unit: str
    gate_db: float
    prompts: int
    chosen: Point
    uniform: tuple[Point, ...]
    mixes: tuple[Point, ...]
    predicted: tuple[tuple[float, float], ...]
    layers: Mapping[str, int]
    notes: tuple[str, ...]

    def show_cost(self, point: Point) -> str:
        """With its unit, for people."""
        return f"{point.cost / 1e6:.2f} MB" if self.unit == "bytes" else f"{point.cost:.3g} ms"


def write_frontier(frontier: Frontier, folder: Path) -> tuple[Path, Path]:
    """The JSON file and the picture, written into an existing folder.

    Raises:
        MachineError: matplotlib is missing.
    """
    data, picture = folder / JSON, folder / PICTURE
    data.write_text(json.dumps(to_json(frontier), indent=1) + "\n", "utf-8")
    draw_frontier(frontier, picture)
    return data, picture


def read_frontier(path: Path) -> Frontier:
    """What `write_frontier` wrote.

    Raises:
        BundleError: it is damaged.
    """
    try:
        return from_json(Frontier, parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{path} is damaged ({error}); copy the bundle or export the student again") from error


def draw_frontier(frontier: Frontier, path: Path) -> None:
    """Cost against PSNR, as a PNG; what lies far above the gate is left out of it and said.

    Raises:
        MachineError: matplotlib is missing.
    """
    require("matplotlib", "export")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    scale, unit = (1e-6, "MB") if frontier.unit == "bytes" else (1e3, "µs")
    _draw_curve(axes, frontier, scale)
    _draw_points(axes, frontier, scale, unit)
    what = "all weights" if frontier.unit == "bytes" else "Linear and Conv2d layers of a picture, priced and not measured"
    axes.set_xlabel(f"cost: {unit}, {what}")
    axes.set_ylabel(f"PSNR against PyTorch float32, dB (mean of {frontier.prompts} pictures)")
    axes.set_title(frontier.title, loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    figure.savefig(path, metadata={"Software": None})  # the same search gives the same bytes


def _draw_curve(axes: Axes, frontier: Frontier, scale: float) -> None:
    top = find_top(frontier)
    costs, decibels = zip(*((cost * scale, db) for cost, db in frontier.predicted if db <= top), strict=True)
    axes.plot(costs, decibels, color="0.55", linewidth=1.5, label="predicted: best mix at this cost, errors added")
    axes.axhline(frontier.gate_db, color="tab:red", linestyle="--", linewidth=1, label=f"gate: {frontier.gate_db:g} dB")


def _draw_points(axes: Axes, frontier: Frontier, scale: float, unit: str) -> None:
    """Bars are standard errors; every point that was not searched has a line of its own in the legend."""
    top = find_top(frontier)

    def scatter(points: Sequence[Point], label: str, **style: Any) -> None:
        shown = [(p.cost * scale, p.psnr_db, p.error_db) for p in points if p.psnr_db <= top] or [(math.nan, math.nan, 0.0)]
        x, y, bars = zip(*shown, strict=True)
        axes.errorbar(x, y, yerr=bars, linestyle="none", elinewidth=0.8, capsize=2, label=label, **style)

    def describe(point: Point) -> str:
        above = ", above this picture" if point.psnr_db > top else ""
        return f"{point.name}: {point.psnr_db:.1f} dB at {point.cost * scale:.4g} {unit}{above}"

    if frontier.mixes:
        scatter(frontier.mixes, "mixes that were tried", marker="o", markersize=5, color="tab:blue", alpha=0.7)
    for point, (marker, color) in zip(frontier.uniform, itertools.cycle(MARKS)):
        scatter([point], describe(point), marker=marker, markersize=7, color=color)
    counts = ", ".join(f"{count} {name}" for name, count in frontier.layers.items())
    chosen = f"chosen: {describe(frontier.chosen)} ({counts})"
    scatter([frontier.chosen], chosen, marker="*", markersize=15, color="tab:green", zorder=5)


def find_top(frontier: Frontier) -> float:
    """The highest PSNR that is drawn."""
    return max(frontier.gate_db, frontier.chosen.psnr_db) + HEADROOM_DB
