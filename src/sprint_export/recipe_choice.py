"""Which recipe a run takes: one that is handed over, a preset by name, a file, or one that is searched.

A search has a limit and makes something small: `max_mb` limits the bytes and makes the picture error small; `auto` limits the
picture error, by the psnr_db gate, and makes the cost small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import CheckedOrder, Deployment, Order
from sprint_export.nouns.recipe import FLOAT, Recipe
from sprint_export.nouns.report import Gate
from sprint_export.nouns.student import Student
from sprint_export.nouns.target import Offer, Target
from sprint_export.progress import Progress, Say
from sprint_export.recipe_toml import ASKED, AUTO, CONVOLUTION, GENTLER, read_recipe
from sprint_export.registry import list_members, load_target

if TYPE_CHECKING:
    from sprint_export.quantize.search.frontier import Frontier


WHOLE_BYTE = 8  # bits


def check_recipe(order: Order, deployment: Deployment, is_whole: bool) -> Recipe | str | None:
    """The recipe an order names: a preset's name, `auto`, or a recipe; a file is read. What cannot be met is refused.

    Args:
        order: names the recipe, or what a search makes small or keeps to.
        deployment: says what can be quantized.
        is_whole: whether all networks are exported, so that pictures can be measured.

    Raises:
        InputError: no such recipe, two that decide at once, or a search without all networks.
        RefusedError: the pair does not mix bits, or quantizes nothing.
    """
    from sprint_export.quantize.preset_files import check_name
    from sprint_export.quantize.search.costs import choose_cost

    recipe, max_mb = order.recipe, order.max_mb
    if isinstance(recipe, str | Path):
        path = check_name(str(recipe))
        recipe = str(recipe) if path is None else read_recipe(path)
    if isinstance(recipe, Recipe):
        check_rules(recipe, deployment.target)
    if recipe is not None and not deployment.offer.is_quantized:
        raise RefusedError(f"{deployment.name} quantizes nothing and takes no recipe; use {_name_quantized(deployment.target)}")
    if max_mb is not None and not (math.isfinite(max_mb) and max_mb > 0):
        raise InputError(f"max_mb={max_mb}: expected a size above 0 in 10^6 bytes, e.g. 2.7")
    if max_mb is not None:
        _check_size_budget(deployment, recipe, is_whole)
    if order.cost is not None and recipe != AUTO:
        raise InputError(f"--cost {order.cost} says what a search makes small; expected --recipe auto beside it")
    if recipe == AUTO:
        choose_cost(order.cost, deployment.device)
        if not is_whole:
            raise InputError("--recipe auto measures pictures and needs all networks; leave --component out")
    return recipe


def _name_quantized(target: Target) -> str:
    quantized = (precision for precision in target.precisions if target.offers[precision].is_quantized)
    return ", ".join(f"{target.name}-{precision}" for precision in quantized)


def _check_size_budget(deployment: Deployment, recipe: Recipe | str | None, is_whole: bool) -> None:
    if not _mixes_bits(deployment.offer):
        targets = map(load_target, list_members("target"))
        able = (f"{each.name}-{name}" for each in targets for name in sorted(each.precisions) if _mixes_bits(each.offers[name]))
        raise RefusedError(f"{deployment.name} does not mix bits; a size budget is for {' and '.join(able)}")
    if recipe is not None:
        raise InputError("a size budget and a recipe both decide every layer's bits; give one of them")
    if not is_whole:
        raise InputError("a size budget is for all networks together; leave --component out")


def _mixes_bits(offer: Offer) -> bool:
    """Whether layers of more bits fit beside those of a precision: it leaves all inputs in float and stores less than a byte."""
    from sprint_export.quantize.schemes.scheme import load_scheme

    scheme = load_scheme(offer.scheme)
    return scheme.inputs is None and scheme.weights.bits < WHOLE_BYTE and offer.convolutions is None


def check_rules(recipe: Recipe, target: Target) -> None:
    """Refuse a rule whose precision the target has not.

    Raises:
        InputError: the message lists what it has.
    """
    for rule in recipe.rules:
        if rule.precision not in (FLOAT, ASKED, CONVOLUTION, GENTLER):
            target.find_offer(rule.precision, f" in rule {rule.pattern!r} of recipe {recipe.name!r}")


def find_psnr_gate(gates: Sequence[Gate], scheme: str) -> float:
    """What `auto` has to reach: the highest psnr_db gate that was asked for, else the scheme's own.

    Raises:
        InputError: it is an upper bound.
    """
    from sprint_export.validate.gates import add_defaults

    on_pictures = [gate for gate in add_defaults(gates, scheme) if gate.metric == "psnr_db"]
    limits = [gate.limit for gate in on_pictures if gate.sign.startswith(">")]
    if not limits:
        raise InputError(f"--recipe auto needs a gate from below, found {on_pictures[0].text!r}; expected e.g. 'psnr_db>=40'")
    return max(limits)


def is_searched(checked: CheckedOrder) -> bool:
    """Whether a search makes the recipe."""
    return checked.order.max_mb is not None or checked.recipe == AUTO


def find_recipe(student: Student, checked: CheckedOrder) -> Recipe | None:
    """The recipe that is handed over or named; None leaves the choice to the precision, or to a search."""
    from sprint_export.quantize.recipes import read_preset

    if is_searched(checked):
        return None
    deployment, recipe = checked.deployment, checked.recipe
    return read_preset(recipe, deployment.precision, student, deployment.target) if isinstance(recipe, str) else recipe


def choose_recipe(
    student: Student, checked: CheckedOrder, progress: Progress, say: Say, compute: Compute = CPU
) -> tuple[Recipe | None, Frontier | None]:
    """The recipe for a specialized student, and what a search has to show; None leaves the choice to the precision.

    Raises:
        InputError, RefusedError: a search has nothing to draw, or no mix within its limit.
    """
    order, deployment = checked.order, checked.deployment
    if not is_searched(checked):
        return find_recipe(student, checked), None
    from sprint_export.quantize.search.objectives import search_bits, search_recipe

    if order.max_mb is None:
        found = search_recipe(student, deployment, checked.min_psnr_db, cost=order.cost, progress=progress, compute=compute)
    else:
        stored = 2 * sum(len(component.weights) for component in student.components.values())  # values, and tables or scales
        budget = int(order.max_mb * 1e6) - stored * deployment.target.tensor_header
        found = search_bits(student, deployment, budget, progress=progress, compute=compute)
    frontier = found.frontier
    for note in frontier.notes:
        say(note)
    if order.max_mb is not None:
        say(f"{frontier.chosen.cost / 1e6:.2f} MB of weights, {frontier.chosen.psnr_db:.1f} dB on the prompts of the search")
        return found.recipe, None
    layers = ", ".join(f"{count} {name}" for name, count in frontier.layers.items())
    say(
        f"recipe auto: {frontier.chosen.psnr_db:.1f} dB on the {frontier.prompts} prompts of the search at a cost of "
        f"{frontier.show_cost(frontier.chosen)}; layers: {layers}"
    )
    return found.recipe, frontier


def add_frontier(bundle: Bundle, frontier: Frontier | None) -> Bundle:
    """The bundle in its work folder with what the search has to show, if there is something."""
    from sprint_export.export.bundle import add_artifacts, make_artifact, write_bundle
    from sprint_export.quantize.search.frontier import write_frontier

    if frontier is None:
        return bundle
    files = write_frontier(frontier, bundle.folder)
    made = [make_artifact(bundle.folder, path, "recipe", "frontier", path.suffix[1:]) for path in files]
    bundle = add_artifacts(bundle, made)
    write_bundle(bundle)
    return bundle
