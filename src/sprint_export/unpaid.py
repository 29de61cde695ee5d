"""Layers whose rounding does not pay: the priced engine is less than 2 % slower without it.

Of each network two engines are built for their kernel tables, as it is and all in float. What a kind of layer costs in the one
and in the other (planning/layer_kernels.py) says what leaving it in float should cost. The cheapest that together should stay
below TOLERATED are left in float at once, and a third engine is built: by its price it is decided. Where that is above, the
cheapest half of them is tried, and so on, and where it leaves room, what should fit into it. A table that is built is kept
(planning/trials.py).
What is found becomes rules of the recipe, before calibration, so that smoothing and mending see the layers as they will be.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol

from sprint_export.errors import InputError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.recipe import FLOAT, UNPAID, Recipe, Rule
from sprint_export.nouns.student import Student
from sprint_export.planning.building import round_plainly
from sprint_export.planning.layer_kernels import find_kind
from sprint_export.planning.prices import Prices, list_peaks
from sprint_export.planning.trials import KeptTrials, NotKeptError, Trials
from sprint_export.progress import Progress, Say, Step, quiet, say_nothing

if TYPE_CHECKING:
    from sprint_export.nouns.student import Component

TOLERATED = 1.02  # times the price of a network with all its layers rounded
EXPECTED = 3  # engines of a network


class NetworkPrices(Protocol):
    """What one network costs with some of its layers in float (planning/trials.py)."""

    def price(self, left: frozenset[str]) -> float:
        """Milliseconds."""

    def share(self, left: frozenset[str]) -> Mapping[str, float]:
        """Milliseconds by layer; one that is computed with another counts as that one."""

    def join(self, left: frozenset[str]) -> Mapping[str, tuple[str, ...]]:
        """Layers -> those that are computed with them."""


@dataclass(frozen=True)
class Kind:
    """Layers of one network that differ in the numbers of their modules alone: `pattern` has a `*` in place of each.

    `layers` are names within the network; `shape` is that of their weights.
    """

    pattern: str
    shape: tuple[int, ...]
    layers: frozenset[str]


@dataclass(frozen=True)
class Choice:
    """Kinds that are computed together, and by the tables what the engine's price becomes, as a ratio, without their rounding."""

    kinds: tuple[Kind, ...]
    ratio: float

    @property
    def layers(self) -> frozenset[str]:
        """Names within the network, of all kinds."""
        return frozenset[str]().union(*(kind.layers for kind in self.kinds))


@dataclass(frozen=True)
class Unpaid:
    """A kind that is left in float: prices without over with rounding.

    `ratio` is without its own, by the tables; `together` of the engine that was built without that of all such kinds of the
    network.
    """

    role: str
    kind: Kind
    ratio: float
    together: float

    @property
    def reason(self) -> str:
        """Of the rule that leaves it in float."""
        return f"{UNPAID}: the priced engine is {describe_ratio(self.together)} without, all such layers of the network together"


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
    say: Say = say_nothing,
) -> Recipe:
    """The recipe with rules that leave in float what does not pay on the deployment's device.

    Args:
        student: specialized.
        deployment: of a target that builds files which say what will run.
        recipe: default: that of the precision.
        progress: is told (step, engines built, expected).
        say: is told what was found in each network.

    Returns:
        The recipe, no longer whole where something was dropped: of its bundle no share of quantized weights is demanded.

    Raises:
        InputError: the device has no published peaks. MachineError: the builder is missing, or the disk is full.
    """
    from sprint_export.export.captures import Captures, keep_captures

    with keep_captures(Captures()):
        return _drop(student, deployment, recipe, Trials, progress, say)


def recall_unpaid(student: Student, deployment: Deployment, recipe: Recipe | None) -> Recipe | None:
    """What `drop_unpaid` gives, where earlier runs built all it takes; else None, and nothing is built."""
    try:
        return _drop(student, deployment, recipe, KeptTrials, quiet, say_nothing)
    except NotKeptError:
        return None


def _drop(
    student: Student,
    deployment: Deployment,
    recipe: Recipe | None,
    trials: type[Trials],
    progress: Progress,
    say: Say,
) -> Recipe:
    from sprint_export.quantize.student import decide_layers

    recipe = decide_layers(student, deployment.precision, deployment.target, recipe)[0]
    prices, rounded = _find_prices(deployment), round_plainly(student, deployment, recipe)
    found: list[Unpaid] = []
    for role, component in rounded.components.items():
        kinds = group_layers(component)
        dropped, ratio = find_unpaid(role, kinds, trials(rounded, role, deployment, prices), progress)
        if kinds:
            say(f"{role}: {_describe(dropped, kinds, ratio)}")
        found += dropped
    if found:
        say("layers that do not pay stay in float, so no share of quantized weights is demanded of this bundle")
    return add_rules(recipe, student, found) if found else recipe


def _describe(dropped: Sequence[Unpaid], kinds: Sequence[Kind], ratio: float) -> str:
    if not dropped:
        return f"each of its {len(kinds)} kinds of layers pays"
    names = ", ".join(f"{each.kind.pattern} ({describe_ratio(each.ratio)})" for each in dropped)
    counts = f"{len(dropped)} of {len(kinds)} kinds of layers"
    return f"{counts} do not pay, the priced engine is {describe_ratio(ratio)} without all of them; by kernel tables: {names}"


def _find_prices(deployment: Deployment) -> Prices:
    unit = deployment.target.find_unit(deployment.precision, deployment.device, deployment.options)
    prices = None if unit is None else list_peaks(deployment.device, unit)
    if prices is None:
        raise InputError(f"--drop-unpaid: {deployment.device.name} has no published peaks to price with; choose e.g. rtx-4090")
    return prices


def group_layers(component: Component) -> tuple[Kind, ...]:
    """The quantized layers of a network by kind, in module order."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name in component.layers:
        found.setdefault((find_kind(name), tuple(component.weights[f"{name}.weight"].shape)), []).append(name)
    return tuple(Kind(pattern, shape, frozenset(names)) for (pattern, shape), names in found.items())


def find_unpaid(
    role: str, kinds: Sequence[Kind], prices: NetworkPrices, progress: Progress = quiet
) -> tuple[list[Unpaid], float]:
    """The kinds to leave in float together, and the built price then over that of the network as it is.

    Args:
        role: of the network.
        kinds: all of it, in module order.
        prices: of the network.
        progress: is told (step, engines built, expected).
    """
    if not kinds:
        return [], 1.0
    built = _Built(prices, Step("pricing layers", role), progress)
    everything = frozenset[str]().union(*(kind.layers for kind in kinds))
    whole = built.price(frozenset())
    ratio = built.price(everything) / whole
    pending, accepted, reached = list_choices(kinds, prices, whole), list[Choice](), 1.0
    if ratio < TOLERATED:
        pending, accepted, reached = [], pending, ratio
    tried = _count_expected(pending, reached)
    while tried:
        ratio = built.price(_join([*accepted, *pending[:tried]])) / whole
        if ratio < TOLERATED:
            accepted, pending, reached = [*accepted, *pending[:tried]], pending[tried:], ratio
            tried = _count_expected(pending, reached)
        elif tried > 1:
            tried //= 2
        else:
            pending = pending[1:]
            tried = _count_expected(pending, reached)
    built.end()
    return [Unpaid(role, kind, each.ratio, reached) for each in accepted for kind in each.kinds], reached


def list_choices(kinds: Sequence[Kind], prices: NetworkPrices, whole: float) -> list[Choice]:
    """Kinds that can be left in float apart from others, the cheapest first, by what the two tables give each.

    Args:
        kinds: in module order.
        prices: has built both tables.
        whole: milliseconds of the network as it is.
    """
    everything = frozenset[str]().union(*(kind.layers for kind in kinds))
    rounded, float_ = prices.share(frozenset()), prices.share(everything)
    place = {layer: i for i, kind in enumerate(kinds) for layer in kind.layers}
    groups = list(range(len(kinds)))
    for first, others in prices.join(frozenset()).items():
        for other in others:
            joined, kept = groups[place[other]], groups[place[first]]
            groups = [kept if group == joined else group for group in groups]
    found = []
    for group in dict.fromkeys(groups):
        mine = tuple(kind for kind, each in zip(kinds, groups, strict=True) if each == group)
        layers = [layer for kind in mine for layer in kind.layers]
        change = sum(float_.get(layer, 0.0) - rounded.get(layer, 0.0) for layer in layers)
        found.append(Choice(mine, 1 + change / whole))
    return sorted(found, key=lambda each: each.ratio)


def _count_expected(choices: Sequence[Choice], reached: float) -> int:
    """How many of the first should, with what is left in float already, stay below TOLERATED."""
    together, count = reached, 0
    for each in choices:
        together += each.ratio - 1
        if together >= TOLERATED or each.ratio >= TOLERATED:
            break
        count += 1
    return count


def _join(choices: Sequence[Choice]) -> frozenset[str]:
    return frozenset[str]().union(*(each.layers for each in choices))


class _Built:
    """Tells how many engines were priced; expected are two and one to see what was found hold, or as many as it takes."""

    def __init__(self, prices: NetworkPrices, step: Step, progress: Progress) -> None:
        self._prices, self._step, self._progress, self._done = prices, step, progress, set[frozenset[str]]()
        progress(step, 0, EXPECTED)

    def price(self, left: frozenset[str]) -> float:
        price = self._prices.price(left)
        self._done.add(left)
        self._progress(self._step, len(self._done), max(EXPECTED, len(self._done) + 1))
        return price

    def end(self) -> None:
        self._progress(self._step, len(self._done), len(self._done))


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
