"""Search the cheapest mix of precisions whose measured pictures meet a gate: `--recipe auto --gate 'psnr_db>=40'`.

    1. Every layer in every precision offered: round it alone, measure how far the pictures move (search_pictures.py).
    2. For every cost at once: the mix with the least sum of errors (knapsack.py). Errors of different layers are nearly
       independent, so their mean squares add to those of the float graph: a predicted PSNR for every cost.
    3. Bisect on the cost, with whole students drawn: the cheapest mix whose mean PSNR, less a margin, meets the gate.
The margin is the mean's own standard error: other prompts will be drawn when the bundle is validated. The search draws none of
those: a gate that is met there is met by a mix that never saw them, and one that is missed is reported, not searched again.
Where one file of prompts serves both, as --prompts does, the notes say so.
Smoothing and bias correction, where the preset has them, are in the wholes and not in the errors of layers alone.
Presets and uniform precisions are measured too and taken where one meets the gate for less.
Offered: float, the precision asked for, and any other the target can give a layer and the device has published peaks for.
Covered: weights with activations, weights alone. Not covered: what two precisions side by side cost, as a fused kernel split.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Device, Target
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.preset_files import list_presets
from sprint_export.quantize.recipes import DEFAULT, list_weight_schemes, read_preset
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.search.bit_search import LARGE_MEASUREMENTS, LARGE_PROMPTS, PROMPTS, check_whole, is_large
from sprint_export.quantize.search.costs import Prices, choose_cost
from sprint_export.quantize.search.frontier import Frontier, Point
from sprint_export.quantize.search.knapsack import Knapsack
from sprint_export.quantize.search.pictures import KeptErrors, KeptPsnr, measure_units
from sprint_export.quantize.search.units import Unit, gather_layers, make_units, round_layers, write_rules
from sprint_export.quantize.student import quantize_student
from sprint_export.recipe_toml import AUTO
from sprint_export.thread_count import fixed_threads

WHOLE_PROMPTS = 32  # small students; a large one's pictures take minutes, it draws LARGE_PROMPTS
LEAST_MARGIN_DB = 0.2  # where few pictures happen to agree
MIXES = 12  # measured at most; a bisection of that many steps is as fine as 1 / 4096 of the range
CURVE = 100  # points of the predicted frontier
FINE = 4e-3  # of the range of costs: closer bounds differ by less than prompts do
RANGE = 2.0  # of pictures in [-1, 1]


@dataclass(frozen=True)
class GateSearch:
    """`recipe` decides every layer and draws what `frontier.chosen` says; `units` hold every layer's errors and costs."""

    recipe: Recipe
    frontier: Frontier
    units: tuple[Unit, ...]


@fixed_threads()
def search_recipe(
    student: Student,
    deployment: Deployment,
    min_psnr_db: float,
    *,
    cost: str | None = None,
    prompts: Sequence[str] | None = None,
    seed: int = 1,
    max_measurements: int | None = None,
    progress: Progress = quiet,
) -> GateSearch:
    """The cheapest recipe whose measured mean PSNR is at least `min_psnr_db`, with a margin.

    Args:
        student: specialized, with all its networks.
        deployment: its target says how layers are rounded and what they can be given, its precision what float layers are in,
            and the peaks of its device price time.
        min_psnr_db: mean over the search's prompts of the picture's PSNR against float32.
        cost: "time" or "bytes"; default: time where the device has published peaks.
        prompts: draw these; default: the last of the student's calibration prompts, as ranges come from the first.
        seed: of the noise.
        max_measurements: as in `search_bits`.
        progress: is told (step, done, total); what it raises ends the search, and the next call goes on from there.

    Raises:
        InputError: the student is not whole or not specialized, there are no prompts, or no peaks to price time with.
        RefusedError: no mix meets the gate; the message says what comes nearest.
    """
    check_whole(student)
    target, precision, device = deployment.target, deployment.precision, deployment.device
    wide = is_large(student)
    count = LARGE_PROMPTS if wide else WHOLE_PROMPTS
    prompts = tuple(student.calibration_prompts[-count:] if prompts is None else prompts)
    if not prompts:
        raise InputError("--recipe auto draws pictures and got no prompts; give --prompts FILE with one prompt a line")
    prices = Prices(student, choose_cost(cost, device), device, target.graph_dtype[precision])
    choices = offer_choices(target, precision, device)
    mixes = _Mixes(student, target, precision, prices, KeptPsnr(student, prompts, seed), min_psnr_db)
    offered = {choice: round_layers(student, target, mixes.rule_alone(choice), precision) for choice in choices}
    bound = LARGE_MEASUREMENTS if max_measurements is None and wide else max_measurements
    units, notes = make_units(student, offered, bound, prices.price)
    units = measure_units(KeptErrors(student, prompts[: LARGE_PROMPTS if wide else PROMPTS], seed), units, offered, progress)
    plain = mixes.measure_presets(choices, progress)
    if not any(mix.meets(min_psnr_db) for mix in plain):
        _refuse(max(plain, key=lambda mix: mix.point.psnr_db), min_psnr_db, len(prompts))
    curve = _Curve(units, prices, plain[0].point.psnr_db)
    tried = _bisect(curve, mixes, progress)
    chosen = min((m for m in (*plain, *tried) if m.meets(min_psnr_db)), key=lambda mix: (mix.point.cost, -mix.point.psnr_db))
    frontier = Frontier(
        title=f"{student.source}, {deployment.name} for {device.name}: the cheapest mix with psnr_db>={min_psnr_db:g}",
        unit=prices.unit,
        gate_db=min_psnr_db,
        prompts=len(prompts),
        chosen=chosen.point,
        uniform=tuple(mix.point for mix in plain),
        mixes=tuple(mix.point for mix in tried),
        predicted=curve.trace(),
        layers=chosen.layers,
        notes=(prices.explain(), *notes, *_find_overlap(student, prompts)),
    )
    return GateSearch(mixes.sign(chosen.recipe), frontier, tuple(units))


def offer_choices(target: Target, precision: str, device: Device) -> tuple[str, ...]:
    """The scheme of the precision asked for and those that may stand beside it; of equals the first is taken."""
    asked = load_scheme(target.offers[precision].scheme)
    if asked.inputs is None:
        return tuple(dict.fromkeys((asked.name, *list_weight_schemes(target))))
    able = (name for name in target.precisions if target.offers[name].is_quantized and target.refuses(name, device) is None)
    beside = (load_scheme(target.offers[name].scheme) for name in able)
    return tuple(dict.fromkeys((asked.name, *(each.name for each in beside if each.weights.name in device.tflops))))


@dataclass(frozen=True)
class _Mix:
    """A recipe and what it measures; how many layers have which precision."""

    recipe: Recipe
    point: Point
    layers: Mapping[str, int]

    def meets(self, gate_db: float) -> bool:
        return self.point.psnr_db - max(self.point.error_db, LEAST_MARGIN_DB) >= gate_db


class _Mixes:
    """Recipes of one student, applied as the exporter applies them, priced and drawn."""

    def __init__(self, student: Student, target: Target, precision: str, prices: Prices, kept: KeptPsnr, gate_db: float) -> None:
        self.student, self.target, self.precision, self.prices, self.kept = student, target, precision, prices, kept
        self.gate_db, self.base = gate_db, read_preset(DEFAULT, precision, student, target)

    def write(self, rules: tuple[Rule, ...]) -> Recipe:
        """A recipe with these rules; the rest, such as its observer, is the default preset's."""
        return self.sign(dataclasses.replace(self.base, rules=rules))

    def sign(self, recipe: Recipe) -> Recipe:
        """The same under the search's name: where a preset was the cheapest, what it says of layers stays."""
        meaning = f"the cheapest mix found with psnr_db>={self.gate_db:g}"
        return dataclasses.replace(recipe, name=f"{AUTO}-psnr_db>={self.gate_db:g}", meaning=meaning, is_whole=False)

    def rule(self, precision: str) -> Recipe:
        """All layers alike."""
        return self.write((Rule("*", precision, "all layers that can be"),))

    def rule_alone(self, precision: str) -> Recipe:
        """How a layer is rounded by itself: smoothing and bias correction act between layers, so only wholes have them."""
        return dataclasses.replace(self.rule(precision), smooth=0.0, correct_bias=False)

    def measure(self, name: str, recipe: Recipe) -> _Mix:
        """Price it and draw it."""
        quantized = quantize_student(self.student, self.precision, self.target, recipe)
        layers = gather_layers(quantized)
        psnr = self.kept.measure(quantized, self.prices.dtype)
        error = float(np.std(psnr, ddof=1) / math.sqrt(len(psnr))) if len(psnr) > 1 else 0.0
        counts = Counter(how.scheme for how in layers.values())
        counts[FLOAT] = sum(len(component.decisions) for component in quantized.components.values()) - counts.total()
        cost = self.prices.total(layers) * self.prices.scale
        return _Mix(recipe, Point(name, cost, float(np.mean(psnr)), error), dict(counts.most_common()))

    def measure_presets(self, choices: Sequence[str], progress: Progress) -> list[_Mix]:
        """All in float, every preset, and every other precision offered for all layers: what a search has to beat."""
        named = {"float": self.rule(FLOAT)} | {
            name: read_preset(name, self.precision, self.student, self.target) for name in list_presets(self.student.family)
        }
        recipes = named | {f"{choice} everywhere": self.rule(choice) for choice in choices[1:]}
        measured = []
        for i, (name, recipe) in enumerate(recipes.items()):
            progress(Step("measuring presets"), i, len(recipes))
            measured.append(self.measure(name, recipe))
        progress(Step("measuring presets"), len(recipes), len(recipes))
        return measured


class _Curve:
    """The best mixes by the sum of their layers' errors, from the cheapest to the dearest; each has a predicted PSNR."""

    def __init__(self, units: Sequence[Unit], prices: Prices, float_db: float) -> None:
        self._units, self._scale = units, prices.scale
        self._sack = Knapsack([[(unit.costs[p], unit.errors[p]) for p in unit.costs] for unit in units])
        self._fixed = prices.total({}) - sum(unit.costs[FLOAT] for unit in units)
        self._float_error = RANGE**2 * 10 ** (-float_db / 10)
        falls = np.flatnonzero(np.diff(self._sack.least) < 0) + 1
        self._cells = [0, *(int(cell) for cell in falls)]

    def __len__(self) -> int:
        return len(self._cells)

    def cost(self, i: int) -> float:
        """At most, of mix i."""
        return (self._fixed + self._budget(i)) * self._scale

    def predict_db(self, i: int) -> float:
        """Of mix i: the float graph's error and the layers' own, added."""
        return float(10 * np.log10(RANGE**2 / (self._float_error + self._sack.least[self._cells[i]])))

    def choose(self, i: int) -> list[Unit]:
        """The units of mix i, each with its precision."""
        picks = self._sack.choose(self._budget(i))
        return [
            dataclasses.replace(unit, precision=tuple(unit.costs)[pick]) for unit, pick in zip(self._units, picks, strict=True)
        ]

    def trace(self) -> tuple[tuple[float, float], ...]:
        """Pairs (cost, predicted PSNR), evenly spaced in rank."""
        ranks = sorted({round(i * (len(self) - 1) / (CURVE - 1)) for i in range(CURVE)})
        return tuple((self.cost(i), self.predict_db(i)) for i in ranks)

    def _budget(self, i: int) -> int:
        return self._sack.smallest + self._cells[i] * self._sack.cell


def _bisect(curve: _Curve, mixes: _Mixes, progress: Progress) -> list[_Mix]:
    """Measure mixes between one that misses the gate and one that meets it, until they cost the same.

    The next to measure is where the prediction, corrected by what it promised too much last time, meets the gate; every third is
    the middle, so that the bounds close in any case.
    """
    tried: list[_Mix] = []
    gate, low, high, excess = mixes.gate_db, -1, len(curve) - 1, 0.0
    span = curve.cost(len(curve) - 1) - curve.cost(0)
    for count in range(MIXES):
        progress(Step("measuring mixes"), count, MIXES)
        if high - low <= 1 and tried:
            break
        if low >= 0 and curve.cost(high) - curve.cost(low) < FINE * span:
            break
        guess = next((i for i in range(high) if curve.predict_db(i) >= gate + excess), high - 1)
        rank = (low + high) // 2 if count % 3 == 2 else min(max(guess, low + 1), max(high - 1, 0))
        rules = write_rules(mixes.student, curve.choose(rank), f"what most weights get with psnr_db>={gate:g}")
        mix = mixes.measure(f"mix {count + 1}", mixes.write(rules))
        tried.append(mix)
        low, high = (low, rank) if mix.meets(gate) else (rank, high)
        excess = curve.predict_db(rank) - mix.point.psnr_db + max(mix.point.error_db, LEAST_MARGIN_DB)
    progress(Step("measuring mixes"), MIXES, MIXES)
    return tried


def _find_overlap(student: Student, prompts: Sequence[str]) -> tuple[str, ...]:
    """Says so where validation may draw what the search has drawn: one file of prompts serves both."""
    shared = len(set(prompts) & set(student.validation_prompts))
    if not shared:
        return ()
    return (
        f"{shared} of the search's {len(prompts)} prompts are validation prompts too: where they are drawn again, the gate is "
        "judged on what the search has seen",
    )


def _refuse(best: _Mix, gate_db: float, prompts: int) -> NoReturn:
    raise RefusedError(
        f"no mix of precisions meets psnr_db>={gate_db:g} with a margin of one standard error: the best measured is "
        f"{best.point.name!r} with {best.point.psnr_db:.1f} +- {best.point.error_db:.1f} dB on {prompts} prompts; lower the "
        "gate, or take a target with a wider float type"
    )
