"""Search a precision for every layer: the least picture error within a number of bytes, or the cheapest mix that meets a gate.

    1. Every layer in every scheme offered: round it alone, measure how far the pictures move (pictures.py).
    2. For every cost at once: the mix with the least sum of errors (knapsack.py). Errors of different layers are nearly
       independent, so their mean squares add, to those of the float graph too: a predicted PSNR for every cost.
    3. Measure whole mixes beside presets and one scheme for all layers, and take what measures best.
This file is the engine; objectives.py has what a mix is measured for. Layers that cannot be compressed, norms, biases and tables
stay in the graph's float type. Not covered: training back what was lost; what two precisions side by side cost, as a fused kernel
split.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import QuantizedLayer, Recipe
from sprint_export.nouns.student import Student
from sprint_export.progress import Progress, Step, track
from sprint_export.psnr import CAP_DB
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.search.costs import Prices, choose_cost
from sprint_export.quantize.search.frontier import Frontier, Point
from sprint_export.quantize.search.knapsack import Knapsack
from sprint_export.quantize.search.pictures import KeptErrors
from sprint_export.quantize.search.units import Unit, gather_layers, make_units
from sprint_export.quantize.student import quantize_student

LARGE_SIDE = 128  # pixels; beyond, one picture takes seconds to a minute on a CPU
PROMPTS, LARGE_PROMPTS = (8, 32), (2, 2)  # that layers alone and whole mixes are drawn with; a large picture takes minutes
LARGE_MEASUREMENTS = 200  # beyond, a large student's layers of a kind share a precision and a measurement
SEED = 1  # of the noise
CURVE = 100  # points of the predicted frontier
SQUARED_RANGE = 4.0  # of pictures in [-1, 1]

Draw = Callable[[Student], Sequence[float]]  # a PSNR for every picture of a quantized student


@dataclass(frozen=True)
class SearchResult:
    """`recipe` decides every layer and draws what `frontier.chosen` says; `units` hold every layer's errors and costs."""

    recipe: Recipe
    frontier: Frontier
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Mix:
    """A recipe, how it rounds layers and how many have which precision, and what it measures."""

    recipe: Recipe
    layers: Mapping[str, QuantizedLayer]
    counts: Mapping[str, int]
    point: Point


class Search:
    """A student's layers, rounded alone, and the mixes of them with the least sum of errors, from the cheapest to the dearest.

    Args:
        student: specialized, with all its networks.
        deployment: its target says how layers are rounded, its precision what float layers are in, its device prices time.
        cost: "time" or "bytes"; None is time where the device has published peaks.
        recipes: by scheme, what gives it to every layer.
        max_measurements: with more layer x scheme pairs, layers of a kind (names that differ in numbers alone) go together; None
            is no bound, and 200 for pictures over 128 pixels.
        progress: is told (step, done, total); what it raises ends the search, and the next call goes on from there.
        compute: where students are measured and drawn.

    Raises:
        InputError: no peaks to price time with, or max_measurements cannot be kept.
    """

    float_db = CAP_DB  # what pictures measure with all layers in float

    def __init__(
        self,
        student: Student,
        deployment: Deployment,
        cost: str | None,
        recipes: Mapping[str, Recipe],
        max_measurements: int | None,
        progress: Progress,
        compute: Compute = CPU,
    ) -> None:
        self.student, self.deployment, self.progress, self.compute = student, deployment, progress, compute
        dtype = deployment.target.graph_dtype[deployment.precision]
        self.prices = Prices(student, choose_cost(cost, deployment.device), deployment.device, dtype)
        self._offered = {scheme: gather_layers(self.quantize(recipe)) for scheme, recipe in recipes.items()}
        bound = LARGE_MEASUREMENTS if max_measurements is None and is_large(student) else max_measurements
        self.units, self.notes = make_units(student, self._offered, bound, self.prices.price)
        self._fixed = self.prices.total({}) - sum(unit.costs[FLOAT] for unit in self.units)
        self.smallest = self._fixed + sum(min(unit.costs.values()) for unit in self.units)

    def quantize(self, recipe: Recipe) -> Student:
        """The student as the exporter applies the recipe to it."""
        deployment = self.deployment
        return quantize_student(self.student, deployment.precision, deployment.target, recipe, compute=self.compute)

    def measure_layers(self, kept: KeptErrors) -> None:
        """Every unit's error in every scheme, alone, and with them the best mix of every cost."""
        pairs = [(unit, scheme) for unit in self.units for scheme in self._offered]
        for unit, scheme in track(pairs, Step("measuring layers"), self.progress):
            unit.errors[scheme] = kept.measure({layer: self._offered[scheme][layer] for layer in unit.layers})
        self._sack = Knapsack([[(unit.costs[p], unit.errors[p]) for p in unit.costs] for unit in self.units])
        self._cells = [0, *(np.flatnonzero(np.diff(self._sack.least) < 0) + 1).tolist()]

    def measure(self, stage: str, recipes: Mapping[str, Recipe], draw: Draw) -> list[Mix]:
        """Whole students, by the names of their recipes."""
        return [self.measure_mix(*named, draw) for named in track(recipes.items(), Step(stage), self.progress)]

    def measure_mix(self, name: str, recipe: Recipe, draw: Draw) -> Mix:
        """A whole student as the exporter makes it, priced and drawn."""
        quantized = self.quantize(recipe)
        layers, psnr = gather_layers(quantized), draw(quantized)
        error_db = float(np.std(psnr, ddof=1) / math.sqrt(len(psnr))) if len(psnr) > 1 else 0.0
        counts = Counter(how.scheme for how in layers.values())
        counts[FLOAT] = sum(len(component.decisions) for component in quantized.components.values()) - len(layers)
        point = Point(name, self.prices.total(layers) * self.prices.scale, float(np.mean(psnr)), error_db)
        return Mix(recipe, layers, dict(counts.most_common()), point)

    def count_mixes(self) -> int:
        """How many best mixes there are, each dearer and with a smaller sum of errors than those before it."""
        return len(self._cells)

    def find_budget(self, rank: int) -> int:
        """What the mix of a rank costs at most, in the prices' whole numbers."""
        return self.smallest + self._cells[rank] * self._sack.cell

    def choose(self, budget: int) -> list[Unit]:
        """The units of the best mix that costs at most `budget`, each with its precision."""
        picks = self._sack.choose(budget - self._fixed)
        return [unit.give(tuple(unit.costs)[pick]) for unit, pick in zip(self.units, picks, strict=True)]

    def predict_db(self, rank: int) -> float:
        """The PSNR of the mix of a rank: the float graph's error and the layers' own, added."""
        float_error = SQUARED_RANGE * 10 ** (-self.float_db / 10)
        return float(10 * np.log10(SQUARED_RANGE / (float_error + self._sack.least[self._cells[rank]])))

    def show(
        self,
        title: str,
        gate_db: float,
        prompts: int,
        best: Mix,
        uniform: Sequence[Mix],
        mixes: Sequence[Mix],
        notes: tuple[str, ...],
    ) -> Frontier:
        """All that was measured, and the predicted curve, evenly spaced in rank."""
        ranks = sorted({round(i * (len(self._cells) - 1) / (CURVE - 1)) for i in range(CURVE)})
        predicted = tuple((self.find_budget(rank) * self.prices.scale, self.predict_db(rank)) for rank in ranks)
        points = (best.point, tuple(mix.point for mix in uniform), tuple(mix.point for mix in mixes))
        heading = f"{self.student.source}, {title}"
        return Frontier(heading, self.prices.unit, gate_db, prompts, *points, predicted, best.counts, notes)


def is_large(student: Student) -> bool:
    """Whether a picture takes so long that measurements are few."""
    picture = student.chain.find_spec(student.chain.names.picture, student.components)
    return picture is not None and max(size for size in picture.shape if isinstance(size, int)) > LARGE_SIDE


def count_prompts(student: Student) -> tuple[int, int]:
    """How many prompts layers alone and whole mixes are drawn with by default."""
    return LARGE_PROMPTS if is_large(student) else PROMPTS


def choose_prompts(student: Student, prompts: Sequence[str] | None, default: Sequence[str], searcher: str) -> tuple[str, ...]:
    """What a search draws: its caller's prompts, or else the default ones.

    Raises:
        InputError: there are none, the student is not specialized, or a network is missing.
    """
    if student.plan is None:
        raise InputError(f"student {student.source!r} is not specialized; call specialize_student(student) first")
    if missing := student.chain.list_missing(student.components):
        raise InputError(
            f"a search draws pictures and needs {', '.join(missing)} too; this student has {', '.join(student.components)}"
        )
    if not (chosen := tuple(default if prompts is None else prompts)):
        raise InputError(f"{searcher} draws pictures and got no prompts; give --prompts FILE with one prompt a line")
    return chosen


def error_to_db(error: float) -> float:
    """A mean squared error of pictures as PSNR in dB, at most 100."""
    return min(CAP_DB, 10 * math.log10(SQUARED_RANGE / max(error, 1e-12)))
