"""What a search of precisions is for: the least picture error within a number of bytes, or the least cost that meets a gate.

`search_bits` (`--max-mb`) takes the mix with the least sum of errors that fits, or one precision for all layers where that fits
and measures better. Covered: precisions that leave activations alone. Choosing again with each network's errors scaled to what
its share of the mix measures was tried and never changed a choice.

`search_recipe` (`--recipe auto --gate 'psnr_db>=40'`) bisects on the cost, with whole students drawn: the cheapest mix, preset or
uniform precision whose mean PSNR, less a margin, meets the gate. The margin is the mean's own standard error: other prompts will
be drawn when the bundle is validated. The search draws none of those: a gate that is met there is met by a mix that never saw
them, and one that is missed is reported, not searched again. Where one file of prompts serves both, as --prompts does, the notes
say so. Smoothing and bias correction, where the preset has them, are in the wholes and not in the errors of layers alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NoReturn

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, RefusedError, unknown_choice
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Device, Target
from sprint_export.progress import Progress, Step, quiet
from sprint_export.quantize.patterns import FLOAT
from sprint_export.quantize.preset_files import list_presets
from sprint_export.quantize.recipes import DEFAULT, list_weight_schemes, read_preset
from sprint_export.quantize.schemes.scheme import load_scheme
from sprint_export.quantize.search.pictures import KeptErrors, KeptPsnr
from sprint_export.quantize.search.search import SEED, Draw, Mix, Search, SearchResult, choose_prompts, count_prompts, error_to_db
from sprint_export.quantize.search.units import gather_layers, write_rules
from sprint_export.recipe_toml import AUTO
from sprint_export.thread_count import fixed_threads

MAX_DEPARTURE = 1.5  # of the whole from the sum, as a factor; the embedded student's is 1.05 with 8 prompts, 1.7 with 2
LEAST_MARGIN_DB = 0.2  # where few pictures happen to agree
MIXES = 12  # measured at most; a bisection of that many steps is as fine as 1 / 4096 of the range
FINE = 4e-3  # of the range of costs: closer bounds differ by less than prompts do


@fixed_threads()
def search_bits(
    student: Student,
    deployment: Deployment,
    budget_bytes: int,
    *,
    choices: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    max_measurements: int | None = None,
    progress: Progress = quiet,
    compute: Compute = CPU,
) -> SearchResult:
    """The recipe with the least picture error whose weights, of all networks, tables and scales included, fit `budget_bytes`.

    `choices` are schemes that leave activations alone, float being always one more; default: those that precisions of the target
    mean. `prompts` are drawn; default: a few of the student's calibration prompts. The others are as `Search` has them.

    Raises:
        InputError: as `Search`, or the student cannot draw, a choice is none of the target's, or no mix fits the budget.
    """
    prompts = choose_prompts(student, prompts, student.calibration_prompts[: count_prompts(student)[0]], "a bit search")
    schemes = _choose_schemes(deployment.target, choices)
    recipes = {scheme: Recipe(scheme, (Rule("*", scheme),)) for scheme in schemes}
    search = Search(student, deployment, "bytes", recipes, max_measurements, progress, compute)
    if budget_bytes < search.smallest:
        raise InputError(
            f"a budget of {budget_bytes:,} bytes is too small: the least that {', '.join(schemes)} can make of "
            f"{student.source!r} for {deployment.target.name} is {search.smallest:,}; raise it to that or more"
        )
    kept = KeptErrors(student, prompts, SEED, compute)
    search.measure_layers(kept)
    units = {"mix": search.choose(budget_bytes)} | {scheme: [unit.give(scheme) for unit in search.units] for scheme in schemes}
    name, rest = f"mixed-{budget_bytes / 1e6:.4g}mb", f"what most weights get within {budget_bytes:,} bytes"
    recipes = {key: Recipe(name, write_rules(student, mix, rest), prompts, SEED) for key, mix in units.items()}
    mix, *uniform = search.measure("measuring mixes", recipes, lambda q: [error_to_db(kept.measure(gather_layers(q)))])
    fitting = (each for each in (mix, *uniform) if each.point.cost <= budget_bytes)
    best = min(fitting, key=lambda each: kept.measure(each.layers))
    chosen = units[best.point.name]
    summed = sum(unit.errors[unit.precision] for unit in chosen)
    notes = (*search.notes, *_find_departure(kept.measure(best.layers), summed))
    title = f"{deployment.name}: the least picture error within {budget_bytes:,} bytes"
    frontier = search.show(title, 0.0, len(prompts), best, uniform, [mix], notes)
    return SearchResult(best.recipe, frontier, tuple(chosen))


def _choose_schemes(target: Target, choices: Sequence[str] | None) -> tuple[str, ...]:
    """The schemes to search with, each once.

    Raises:
        InputError: there are none, or one of them rounds what layers read.
    """
    offers = [(name, offer.scheme) for name, offer in target.offers.items() if offer.is_quantized]
    alone = {name: scheme for name, scheme in offers if load_scheme(scheme).inputs is None}
    known = {scheme: scheme for scheme in alone.values()} | alone
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


def _find_departure(error: float, summed: float) -> tuple[str, ...]:
    """Says so where the whole is not the sum of its layers."""
    low, high = sorted((error, summed))
    if high <= MAX_DEPARTURE * low:
        return ()
    return (
        f"the layers' picture errors sum to {summed:.2e} and the whole measures {error:.2e}: the sum that the choice "
        "goes by is a rough guide here; more prompts make it surer",
    )


@fixed_threads()
def search_recipe(
    student: Student,
    deployment: Deployment,
    min_psnr_db: float,
    *,
    cost: str | None = None,
    prompts: Sequence[str] | None = None,
    max_measurements: int | None = None,
    progress: Progress = quiet,
    compute: Compute = CPU,
) -> SearchResult:
    """The cheapest recipe whose measured mean PSNR against float32 is at least `min_psnr_db`, with a margin.

    `prompts` are drawn; default: the last of the student's calibration prompts, as ranges come from the first. The others are as
    `Search` has them.

    Raises:
        InputError: as `Search`, or the student cannot draw.
        RefusedError: no mix meets the gate; the message says what comes nearest.
    """
    alone, whole = count_prompts(student)
    prompts = choose_prompts(student, prompts, student.calibration_prompts[-whole:], "--recipe auto")
    target, precision, device = deployment.target, deployment.precision, deployment.device
    schemes = offer_choices(target, precision, device)
    presets = {name: read_preset(name, precision, student, target) for name in list_presets(student.family)}
    base = _sign(read_preset(DEFAULT, precision, student, target), min_psnr_db)
    plain = {scheme: _give_all(base, scheme) for scheme in (FLOAT, *schemes)}
    recipes = {scheme: dataclasses.replace(plain[scheme], smooth=0.0, correct_bias=False) for scheme in schemes}
    search = Search(student, deployment, cost, recipes, max_measurements, progress, compute)
    search.measure_layers(KeptErrors(student, prompts[:alone], SEED, compute))
    kept = KeptPsnr(student, prompts, SEED, compute)

    def draw(quantized: Student) -> list[float]:
        return kept.measure(quantized, search.prices.dtype)

    recipes = {"float": plain[FLOAT]} | presets | {f"{scheme} everywhere": plain[scheme] for scheme in schemes[1:]}
    uniform = search.measure("measuring presets", recipes, draw)
    if not any(_meets(mix, min_psnr_db) for mix in uniform):
        _refuse(max(uniform, key=lambda mix: mix.point.psnr_db), min_psnr_db, len(prompts))
    search.float_db = uniform[0].point.psnr_db
    mixes = _bisect(search, base, min_psnr_db, draw)
    passing = (mix for mix in (*uniform, *mixes) if _meets(mix, min_psnr_db))
    best = min(passing, key=lambda mix: (mix.point.cost, -mix.point.psnr_db))
    title = f"{deployment.name} for {device.name}: the cheapest mix with psnr_db>={min_psnr_db:g}"
    notes = (search.prices.explain(), *search.notes, *_find_overlap(student, prompts))
    frontier = search.show(title, min_psnr_db, len(prompts), best, uniform, mixes, notes)
    return SearchResult(_sign(best.recipe, min_psnr_db), frontier, tuple(search.units))


def offer_choices(target: Target, precision: str, device: Device) -> tuple[str, ...]:
    """The scheme of the precision asked for and those that may stand beside it; of equals the first is taken.

    Beside one that rounds inputs stand those that do: weights alone in few bits are multiplied no faster than float ones.
    """
    asked = load_scheme(target.offers[precision].scheme)
    if asked.inputs is None:
        return tuple(dict.fromkeys((asked.name, *list_weight_schemes(target))))
    able = (name for name in target.precisions if target.offers[name].is_quantized and target.refuses(name, device) is None)
    beside = (load_scheme(target.offers[name].scheme) for name in able)
    faster = (each.name for each in beside if each.inputs is not None and each.weights.name in device.tflops)
    return tuple(dict.fromkeys((asked.name, *faster)))


def _sign(recipe: Recipe, gate_db: float) -> Recipe:
    """The same under the search's name: where a preset was the cheapest, what it says of layers stays."""
    meaning = f"the cheapest mix found with psnr_db>={gate_db:g}"
    return dataclasses.replace(recipe, name=f"{AUTO}-psnr_db>={gate_db:g}", meaning=meaning, is_whole=False)


def _give_all(base: Recipe, scheme: str) -> Recipe:
    """All layers alike; the rest, such as the observer, is the base's."""
    return dataclasses.replace(base, rules=(Rule("*", scheme, "all layers that can be"),))


def _meets(mix: Mix, gate_db: float) -> bool:
    return mix.point.psnr_db - max(mix.point.error_db, LEAST_MARGIN_DB) >= gate_db


def _bisect(search: Search, base: Recipe, gate_db: float, draw: Draw) -> list[Mix]:
    """Measure mixes between one that misses the gate and one that meets it, until they cost the same.

    The next to measure is where the prediction, corrected by what it promised too much last time, meets the gate; every third is
    the middle, so that the bounds close in any case.
    """
    mixes: list[Mix] = []
    low, high, excess = -1, search.count_mixes() - 1, 0.0
    fine = FINE * (search.find_budget(high) - search.find_budget(0))
    for count in range(MIXES):
        search.progress(Step("measuring mixes"), count, MIXES)
        if high - low <= 1 and mixes:
            break
        if low >= 0 and search.find_budget(high) - search.find_budget(low) < fine:
            break
        guess = next((i for i in range(high) if search.predict_db(i) >= gate_db + excess), high - 1)
        rank = (low + high) // 2 if count % 3 == 2 else min(max(guess, low + 1), max(high - 1, 0))
        units = search.choose(search.find_budget(rank))
        rules = write_rules(search.student, units, f"what most weights get with psnr_db>={gate_db:g}")
        mix = search.measure_mix(f"mix {count + 1}", dataclasses.replace(base, rules=rules), draw)
        mixes.append(mix)
        low, high = (low, rank) if _meets(mix, gate_db) else (rank, high)
        excess = search.predict_db(rank) - mix.point.psnr_db + max(mix.point.error_db, LEAST_MARGIN_DB)
    search.progress(Step("measuring mixes"), MIXES, MIXES)
    return mixes


def _find_overlap(student: Student, prompts: Sequence[str]) -> tuple[str, ...]:
    """Says so where validation may draw what the search has drawn: one file of prompts serves both."""
    shared = len(set(prompts) & set(student.validation_prompts))
    if not shared:
        return ()
    return (
        f"{shared} of the search's {len(prompts)} prompts are validation prompts too: where they are drawn again, the gate is "
        "judged on what the search has seen",
    )


def _refuse(best: Mix, gate_db: float, prompts: int) -> NoReturn:
    raise RefusedError(
        f"no mix of precisions meets psnr_db>={gate_db:g} with a margin of one standard error: the best measured is "
        f"{best.point.name!r} with {best.point.psnr_db:.1f} +- {best.point.error_db:.1f} dB on {prompts} prompts; lower the "
        "gate, or take a target with a wider float type"
    )
