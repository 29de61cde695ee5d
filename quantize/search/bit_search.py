"""Search the bits of every layer: the least picture error that a number of bytes can buy, as a recipe.

    1. For every layer and every precision offered: round that layer's weight alone and measure how far the pictures move.
    2. Choose a precision a layer, with sum of bytes <= budget and the least sum of errors (a knapsack, solved exactly).
    3. Measure the whole. Rounding errors of different layers are nearly independent, so their mean squares add; where the whole
       departs from the sum, the notes say so. A uniform precision that fits and measures better is taken instead.
Choosing again with each network's errors scaled to what its share of the mix measures was tried and never changed a choice.
Layers that cannot be compressed, norms, biases and tables take 16 bits. Covered: precisions that leave activations alone; for
quantized activations and a demand on the pictures see gate_search.py. Not covered: training back what was lost.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Target
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.recipes import list_weight_schemes
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.search.costs import find_shape, layer_bytes, student_bytes
from sprint_export.quantize.search.knapsack import Knapsack
from sprint_export.quantize.search.pictures import KeptErrors, measure_units
from sprint_export.quantize.search.units import Unit, make_units, round_layers, write_rules
from sprint_export.thread_count import fixed_threads

LARGE_SIDE = 128  # pixels; beyond, one picture takes seconds to a minute on a CPU
PROMPTS, LARGE_PROMPTS = 8, 2
LARGE_MEASUREMENTS = 200  # beyond, a large student's layers of a kind share a precision and a measurement
MAX_DEPARTURE = 1.5  # of the whole from the sum, as a factor; the embedded student's is 1.05 with 8 prompts, 1.7 with 2
FRONTIER = 32  # points


@dataclass(frozen=True)
class Mix:
    """One way to store all layers: bytes of all weights; mean squared picture error, as the sum of layers and measured whole."""

    bytes: int
    summed: float
    error: float

    @property
    def psnr_db(self) -> float:
        """The error in dB of the pictures' range, [-1, 1]; at most 100."""
        return min(100.0, 10 * math.log10(4 / max(self.error, 1e-12)))


@dataclass(frozen=True)
class BitSearch:
    """What a search found.

    `recipe` decides every layer and is what `chosen` measures; `uniform` gives all layers the same; `frontier` holds pairs
    (bytes, least sum of errors) over all sizes the choices can make; `notes` say what was simplified or departs.
    """

    recipe: Recipe
    chosen: Mix
    uniform: Mapping[str, Mix]
    frontier: tuple[tuple[int, float], ...]
    layers: tuple[Unit, ...]
    notes: tuple[str, ...]


@fixed_threads()
def search_bits(
    student: Student,
    target: Target,
    budget_bytes: int,
    *,
    choices: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    seed: int = 1,
    max_measurements: int | None = None,
    progress: Progress = quiet,
) -> BitSearch:
    """The recipe with the least picture error whose weights take at most `budget_bytes`.

    Args:
        student: specialized, with all its networks.
        target: its groups and graph type say how a weight is rounded.
        budget_bytes: for the weights of all networks, tables and scales included.
        choices: schemes that the target can give a layer and that leave activations alone, float being always one more; default:
            those that precisions of the target mean.
        prompts: draw these; default: a few of the student's calibration prompts.
        seed: of the noise.
        max_measurements: with more layer x precision pairs, layers of a kind (names that differ in numbers alone) go together;
            default: no bound, and 200 for pictures over 128 pixels.
        progress: is told (step, done, total); what it raises ends the search, and the next call goes on from there.

    Raises:
        InputError: the student is not whole or not specialized, a choice is none of the target's, no mix is as small as the
            budget, there are no prompts, or max_measurements cannot be kept.
    """
    check_whole(student)
    choices = _choose_schemes(target, choices)
    offered = {choice: round_layers(student, target, Recipe(choice, (Rule("*", choice),))) for choice in choices}
    wide = is_large(student)
    bound = LARGE_MEASUREMENTS if max_measurements is None and wide else max_measurements
    units, notes = make_units(student, offered, bound, lambda layer, how: layer_bytes(find_shape(student, layer), how))
    fixed = student_bytes(student, {}) - sum(unit.costs[FLOAT] for unit in units)
    smallest = fixed + sum(min(unit.costs.values()) for unit in units)
    if budget_bytes < smallest:
        raise InputError(
            f"a budget of {budget_bytes:,} bytes is too small: the least that {', '.join(choices)} can make of "
            f"{student.source!r} for {target.name} is {smallest:,}; raise it to that or more"
        )
    prompts = tuple(student.calibration_prompts[: LARGE_PROMPTS if wide else PROMPTS] if prompts is None else prompts)
    if not prompts:
        raise InputError("a bit search draws pictures and got no prompts; give --prompts FILE with one prompt a line")
    kept = KeptErrors(student, prompts, seed)
    units = measure_units(kept, units, offered, progress)

    def measure_mix(chosen: Sequence[Unit]) -> tuple[Recipe, Mix]:
        """The recipe of a choice, and what that recipe itself, applied to the student, takes and does."""
        rules = write_rules(student, chosen, f"what most weights get within {budget_bytes:,} bytes")
        recipe = Recipe(f"mixed-{budget_bytes / 1e6:.4g}mb", rules, prompts, seed)
        layers = round_layers(student, target, recipe)
        summed = sum(unit.errors[unit.precision] for unit in chosen)
        return recipe, Mix(student_bytes(student, layers), summed, kept.measure(layers))

    progress(Step("measuring mixes"), 0, len(choices) + 1)
    sack = Knapsack([[(unit.costs[p], unit.errors[p]) for p in unit.costs] for unit in units])
    picks = sack.choose(budget_bytes - fixed)
    layers = [_give(unit, tuple(unit.costs)[pick]) for unit, pick in zip(units, picks, strict=True)]
    recipe, chosen = measure_mix(layers)
    uniform = {}
    for i, choice in enumerate(choices):
        progress(Step("measuring mixes"), i + 1, len(choices) + 1)
        even = [_give(unit, choice) for unit in units]
        even_recipe, uniform[choice] = measure_mix(even)
        if uniform[choice].bytes <= budget_bytes and uniform[choice].error < chosen.error:
            layers, recipe, chosen = even, even_recipe, uniform[choice]
    progress(Step("measuring mixes"), len(choices) + 1, len(choices) + 1)
    notes += _find_departure(chosen)
    return BitSearch(recipe, chosen, uniform, _trace_frontier(sack, fixed), tuple(layers), notes)


def is_large(student: Student) -> bool:
    """Whether a picture takes so long that measurements are few."""
    picture = student.chain.find_spec(student.chain.names.picture, student.components)
    return picture is not None and max(size for size in picture.shape if isinstance(size, int)) > LARGE_SIDE


def check_whole(student: Student) -> None:
    """A search draws pictures.

    Raises:
        InputError: the student is not specialized, or a network is missing.
    """
    if student.plan is None:
        raise InputError(f"student {student.source!r} is not specialized; call specialize_student(student) first")
    if missing := student.chain.list_missing(student.components):
        raise InputError(
            f"a search draws pictures and needs {', '.join(missing)} too; this student has {', '.join(student.components)}"
        )


def _choose_schemes(target: Target, choices: Sequence[str] | None) -> tuple[str, ...]:
    """The schemes to search with, each once.

    Raises:
        InputError: there are none, or one of them rounds what layers read.
    """
    offers = [(name, offer.scheme) for name, offer in target.offers.items() if offer.is_quantized]
    alone = {name: scheme for name, scheme in offers if load_scheme(scheme).inputs is None}
    known = dict(zip(alone.values(), alone.values(), strict=True)) | alone
    if choices is None:
        choices = list_weight_schemes(target)
    for choice in choices:
        if choice not in known:
            hint = "a bit search offers what leaves activations alone; float is always among it"
            raise unknown_choice(f"precision to search with for {target.name}:", choice, known, hint)
    if not choices:
        listed = ", ".join(alone) or "(none)"
        raise InputError(f"a bit search needs weight-only precisions for {target.name} and got none; choose from: {listed}")
    return tuple(dict.fromkeys(known[choice] for choice in choices))


def _find_departure(mix: Mix) -> tuple[str, ...]:
    """Says so where the whole is not the sum of its layers."""
    low, high = sorted((mix.error, mix.summed))
    if high <= MAX_DEPARTURE * low:
        return ()
    return (
        f"the layers' picture errors sum to {mix.summed:.2e} and the whole measures {mix.error:.2e}: the sum that the choice "
        "goes by is a rough guide here; more prompts make it surer",
    )


def _trace_frontier(sack: Knapsack, fixed: int) -> tuple[tuple[int, float], ...]:
    """The least sums of errors at sizes evenly spaced from the smallest to float."""
    last = len(sack.least) - 1
    cells = sorted({round(i * last / (FRONTIER - 1)) for i in range(FRONTIER)})
    return tuple((fixed + sack.smallest + cell * sack.cell, float(sack.least[cell])) for cell in cells)


def _give(unit: Unit, precision: str) -> Unit:
    return dataclasses.replace(unit, precision=precision)
