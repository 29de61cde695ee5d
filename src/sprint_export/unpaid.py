"""Layers whose rounding does not pay: the priced engine is less than 2 % slower without it.

Of each network the quantized layers are taken by kind. The network is built as it is, and once for every kind with that kind in
float; then kinds are left in float together, those without which it is fastest first, as long as all of it stays below
TOLERATED. Ranges of inputs are made up, since kernels and bytes do not depend on them: nothing is calibrated for a trial.
What is found becomes rules of the recipe, so that calibration, smoothing and mending see the layers as they will be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from sprint_export.errors import InputError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import FLOAT, UNPAID, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.planning.building import build_network, round_plainly
from sprint_export.planning.prices import Prices, list_peaks, price_work
from sprint_export.progress import Progress, Step, quiet, track

if TYPE_CHECKING:
    from sprint_export.nouns.student import Component

TOLERATED = 1.02  # times the price of a network with all its layers rounded
NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")  # of a repeated module, e.g. the 3 of blocks.3.conv1

Price = Callable[[frozenset[str]], float]


@dataclass(frozen=True)
class Kind:
    """Layers of one network that differ in the numbers of their modules alone: `pattern` has a `*` in place of each.

    `layers` are names within the network; `shape` is that of their weights.
    """

    pattern: str
    shape: tuple[int, ...]
    layers: frozenset[str]


@dataclass(frozen=True)
class Unpaid:
    """A kind that is left in float; `ratio` is the price without its rounding, it alone, over that of the network as it is."""

    role: str
    kind: Kind
    ratio: float

    @property
    def reason(self) -> str:
        """Of the rule that leaves it in float."""
        return f"{UNPAID}: the priced engine is {describe_ratio(self.ratio)} without"


def describe_ratio(ratio: float) -> str:
    """In words, e.g. `0.3 % slower`."""
    percent = 100 * (ratio - 1)
    if abs(percent) < 0.05:
        return "as fast"
    return f"{abs(percent):.1f} % {'slower' if percent > 0 else 'faster'}"


def drop_unpaid(
    student: Student,
    deployment: Deployment,
    recipe: Recipe | None,
    progress: Progress = quiet,
    say: Callable[[str], None] = print,
) -> Recipe:
    """The recipe with rules that leave in float what does not pay on the deployment's device.

    Args:
        student: specialized.
        deployment: of a target that builds files which say what will run.
        recipe: default: that of the precision.
        progress: is told (step, trials done, of).
        say: is told what was found in each network.

    Returns:
        The recipe, no longer whole where something was dropped: of its bundle no share of quantized weights is demanded.

    Raises:
        InputError: the device has no published peaks. MachineError: the builder is missing, or the disk is full.
    """
    from sprint_export.export.captures import Captures, keep_captures
    from sprint_export.quantize.student import decide_layers

    recipe = decide_layers(student, deployment.precision, deployment.target, recipe)[0]
    prices, rounded = _find_prices(deployment), round_plainly(student, deployment, recipe)
    found: list[Unpaid] = []
    with keep_captures(Captures()):
        for role, component in rounded.components.items():
            kinds = group_layers(component)
            dropped, ratio = find_unpaid(role, kinds, _Pricing(rounded, role, deployment, prices).price, progress)
            if dropped:
                names = ", ".join(f"{each.kind.pattern} ({describe_ratio(each.ratio)})" for each in dropped)
                counts = f"{len(dropped)} of {len(kinds)} kinds of layers"
                say(f"{role}: {counts} do not pay, the priced engine is {describe_ratio(ratio)} without all of them: {names}")
            elif kinds:
                say(f"{role}: each of its {len(kinds)} kinds of layers pays")
            found += dropped
    if found:
        say("layers that do not pay stay in float, so no share of quantized weights is demanded of this bundle")
    return add_rules(recipe, student, found) if found else recipe


def _find_prices(deployment: Deployment) -> Prices:
    unit = deployment.target.find_unit(deployment.precision, deployment.device, deployment.options)
    prices = None if unit is None else list_peaks(deployment.device, unit)
    if prices is None:
        raise InputError(f"--drop-unpaid: {deployment.device.name} has no published peaks to price with; choose e.g. rtx-4090")
    return prices


class _Pricing:
    """Prices one network with some of its layers in float, by an engine that is built for it."""

    def __init__(self, student: Student, role: str, deployment: Deployment, prices: Prices) -> None:
        self.student, self.role, self.deployment, self.prices = student, role, deployment, prices

    def price(self, left: frozenset[str]) -> float:
        """Milliseconds of a run at the device's peaks.

        Raises:
            InputError: the built files do not say what will run.
        """
        component = self.student.components[self.role]
        kept = {name: layer for name, layer in component.layers.items() if name not in left}
        trial = replace(self.student, components={self.role: replace(component, layers=kept)})
        kernels, _ = build_network(trial, self.role, self.deployment)
        if not kernels:
            raise InputError(f"--drop-unpaid: the files built for {self.deployment.name} do not say what will run")
        return price_work(kernels, self.prices).milliseconds


def group_layers(component: Component) -> tuple[Kind, ...]:
    """The quantized layers of a network by kind, in module order."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name in component.layers:
        pattern = NUMBER.sub("*", f".{name}")[1:]
        found.setdefault((pattern, tuple(component.weights[f"{name}.weight"].shape)), []).append(name)
    return tuple(Kind(pattern, shape, frozenset(names)) for (pattern, shape), names in found.items())


def find_unpaid(role: str, kinds: Collection[Kind], price: Price, progress: Progress = quiet) -> tuple[list[Unpaid], float]:
    """The kinds to leave in float together, and the price then over that of the network as it is.

    Args:
        role: of the network.
        kinds: all of it.
        price: milliseconds of the network with these layers in float.
        progress: is told (step, trials done, of).
    """
    if not kinds:
        return [], 1.0
    progress(Step("pricing layers", role), 0, len(kinds))
    whole = price(frozenset())
    alone = [Unpaid(role, kind, price(kind.layers) / whole) for kind in track(kinds, Step("pricing layers", role), progress)]
    unpaid = sorted((each for each in alone if each.ratio < TOLERATED), key=lambda each: each.ratio)
    dropped, left, reached = unpaid[:1], frozenset[str](), 1.0
    if dropped:
        left, reached = dropped[0].kind.layers, dropped[0].ratio
    for each in track(unpaid[1:], Step("pricing layers", f"{role}, together"), progress):
        ratio = price(left | each.kind.layers) / whole
        if ratio < TOLERATED:
            left, reached = left | each.kind.layers, ratio
            dropped.append(each)
    return dropped, reached


def add_rules(recipe: Recipe, student: Student, found: Collection[Unpaid]) -> Recipe:
    """The recipe with a first rule for each kind, or for each of its layers where a pattern would match others too.

    Rules that decide no layer any more are left out.
    """
    from sprint_export.quantize.patterns import list_layers

    layers = [name for name, _ in list_layers(student)]
    rules = [Rule(pattern, FLOAT, each.reason) for each in found for pattern in _list_patterns(each, layers)]
    rules += recipe.rules
    deciding = {next(rule.pattern for rule in rules if fnmatchcase(layer, rule.pattern)) for layer in layers}
    kept = tuple(rule for rule in rules[:-1] if rule.pattern in deciding)
    return replace(recipe, name=f"{recipe.name}, what pays", rules=(*kept, rules[-1]), is_whole=False)


def _list_patterns(each: Unpaid, layers: Collection[str]) -> list[str]:
    mine = {f"{each.role}.{name}" for name in each.kind.layers}
    pattern = f"{each.role}.{each.kind.pattern}"
    return [pattern] if {layer for layer in layers if fnmatchcase(layer, pattern)} == mine else sorted(mine)
