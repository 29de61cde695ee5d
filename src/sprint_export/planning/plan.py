"""The plan for one device: what a student or a bundle holds and costs there, what dominates, and what would help.

For a student every pair of target and precision that the device can run is counted and priced; the one that is looked at closely
is what was asked for or, unasked, the fastest that fits with weights of 8 bits or more. A bundle is one pair.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sprint_export.errors import InputError, RefusedError
from sprint_export.nouns.order import Deployment
from sprint_export.nouns.target import Device
from sprint_export.nouns.work import Work
from sprint_export.options import complete_options
from sprint_export.planning.measured import HELD, WHOLE, Measured
from sprint_export.planning.networks import NetworkWork, Subject
from sprint_export.planning.prices import Price, Prices, expect_reached, list_peaks, price_kernel, price_work
from sprint_export.registry import list_members, load_target

TOP = 8  # layers that are listed
LEAST_BITS = 8  # of weights that are taken unasked: fewer change pictures visibly


@dataclass(frozen=True)
class Dominating:
    """Kernels of one name but for numbers: how many run for a picture, and their milliseconds of it."""

    name: str
    count: int
    milliseconds: float
    share: float


@dataclass(frozen=True)
class NetworkPlan:
    """One network: its work and, for all its runs of a picture, the prices at peaks and as reached, and what was measured."""

    work: NetworkWork
    peak: Price | None
    reached: Price | None
    measured_ms: float | None = None


@dataclass(frozen=True)
class DevicePlan:
    """One pair of target and precision on one device. `runtime` in bytes; `measured` is the whole picture's median.

    `held_mb` is the memory that a bench measured; `notes` says what is not known and whose figures stand behind the prices.
    """

    deployment: Deployment
    unit: str | None
    networks: tuple[NetworkPlan, ...]
    runtime: int
    basis: str
    measured_ms: float | None = None
    held_mb: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As the user writes it, e.g. trt-fp8."""
        return self.deployment.name

    @property
    def device(self) -> Device:
        """What it is planned for."""
        return self.deployment.device

    @property
    def is_on_device(self) -> bool:
        """Whether it runs in the memory that the table knows: a card's is not that of the processor beside it."""
        return self.device.compute_capability is None or self.unit in self.device.units

    @property
    def weights(self) -> int:
        """Bytes of all networks."""
        return sum(each.work.weights for each in self.networks)

    @property
    def memory(self) -> int:
        """Bytes with all networks there: weights, the largest activations of one, and the runtime."""
        return self.weights + max((each.work.activations or 0 for each in self.networks), default=0) + self.runtime

    @property
    def memory_apart(self) -> int:
        """Bytes with one network there at a time."""
        return max((each.work.weights + (each.work.activations or 0) for each in self.networks), default=0) + self.runtime

    @property
    def room(self) -> int | None:
        """Bytes that an app may hold on the device, or that it has; None: not known, as of the processor beside a card."""
        if not self.is_on_device:
            return None
        size = self.device.app_gb if self.device.app_gb is not None else self.device.memory_gb
        return None if size is None else round(size * 1e9)

    @property
    def peak_ms(self) -> float | None:
        """Of a picture at published peaks; None where a network is not priced."""
        return _add(each.peak for each in self.networks)

    @property
    def reached_ms(self) -> float | None:
        """Of a picture at the rates that are reached."""
        return _add(each.reached for each in self.networks)

    @property
    def is_least(self) -> bool:
        """Whether part of a price is left out, for nobody publishes the rate."""
        return any(price is not None and price.unknown for each in self.networks for price in (each.peak, each.reached))


def _add(prices: Iterable[Price | None]) -> float | None:
    """Milliseconds of all, where all are priced."""
    values = list(prices)
    known = [price.milliseconds for price in values if price is not None]
    return sum(known) if known and len(known) == len(values) else None


@dataclass(frozen=True)
class Question:
    """What a plan is asked: devices, the pairs to choose from (none: all), what was measured, and a price list of one's own."""

    devices: tuple[Device, ...]
    targets: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    prices: Prices | None = None


@dataclass(frozen=True)
class Answer:
    """For one device: the pair that is looked at closely, the dominating kernels of it, and all pairs that were priced."""

    device: Device
    chosen: DevicePlan
    dominating: tuple[Dominating, ...]
    others: tuple[DevicePlan, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


def plan_device(subject: Subject, device: Device, deployments: Sequence[Deployment], question: Question) -> Answer:
    """Plan for one device.

    Args:
        subject: the student or bundle.
        device: where it would run.
        deployments: the pairs to price on it.
        question: with what was measured, and prices of the user's own.

    Raises:
        InputError: no pair can run on the device.
    """
    plans = [plan_deployment(subject, each, question) for each in deployments]
    asked = [each for each in plans if each.name in question.targets or not question.targets]
    if not asked:
        raise InputError(f"no target runs on {device.name}; see: sprint-export list targets")
    chosen = _choose(asked)
    others = tuple(sorted((each for each in plans if each is not chosen), key=rank_plan))
    return Answer(device, chosen, list_dominating(chosen, question.prices), others)


def plan_deployment(subject: Subject, deployment: Deployment, question: Question) -> DevicePlan:
    """One pair on one device."""
    device = deployment.device
    unit = deployment.target.find_unit(deployment.precision, device, deployment.options)
    peaks = None if unit is None else list_peaks(device, unit)
    own = question.prices if question.prices is not None and question.prices.unit == unit else None
    reached = own or (None if peaks is None else expect_reached(peaks))
    kinds = {*(peaks.tflops if peaks else ()), *(own.tflops if own else ())}
    measured = next((each for each in question.measured if each.target == deployment.name and each.fits(device)), None)
    networks = tuple(
        _price_network(work, peaks, reached, None if measured is None else measured.medians.get(work.role))
        for work in subject.list_networks(deployment, kinds)
    )
    held = None if measured is None else next((measured.memory_mb[name] for name in HELD if name in measured.memory_mb), None)
    return DevicePlan(
        deployment,
        unit,
        networks,
        round((device.runtime_gb or 0.0) * 1e9) if unit in device.units else 0,
        "nothing: no rate of its unit is known" if reached is None else reached.basis,
        None if measured is None else measured.medians.get(WHOLE),
        held,
        (*_list_unused(question, deployment, unit, measured), *_list_notes(device, unit, networks)),
    )


def _price_network(work: NetworkWork, peaks: Prices | None, reached: Prices | None, measured: float | None) -> NetworkPlan:
    kernels = None if work.kernels is None else [kernel for kernel in work.kernels for _ in range(work.times)]
    at_peaks, as_reached = (
        None if prices is None or kernels is None else price_work(kernels, prices, work.pictures) for prices in (peaks, reached)
    )
    return NetworkPlan(work, at_peaks, as_reached, measured)


def _list_unused(question: Question, deployment: Deployment, unit: str | None, measured: Measured | None) -> Iterator[str]:
    """What was given and is not of this pair, or of another device."""
    prices, device = question.prices, deployment.device
    if prices is not None and prices.unit != unit:
        yield f"the price list is of {prices.device}'s {prices.unit} and not used: {deployment.name} runs on the {unit} here"
    elif prices is not None and prices.device != device.name:
        yield f"the price list was fitted to {prices.device}, another device"
    for each in question.measured if measured is None else ():
        of = each.device or "a device that it does not name"
        yield f"{each.path}: not beside the prices, for it is of {each.target} on {of}"


def _list_notes(device: Device, unit: str | None, networks: Sequence[NetworkPlan]) -> list[str]:
    """What is not known, and which numbers are not the vendor's own."""
    notes = [f"{each.work.role} is not priced: {each.work.origin}" for each in networks if each.work.kernels is None]
    origins = dict.fromkeys(each.work.origin for each in networks if each.work.kernels is not None)
    notes += [f"kernels: {', '.join(origins)}"] if origins else []
    unknown = {kind for each in networks if each.reached is not None for kind in each.reached.unknown}
    if unknown:
        rates = " and ".join(sorted("memory bandwidth" if kind == "memory" else f"{kind} rate" for kind in unknown))
        notes.append(f"prices are least ones: no {rates} of the {unit} of {device.name} is known")
    by_source: dict[str, list[str]] = {}
    for name, figure in device.figures.items():
        if figure.by != "vendor" and (unit is None or not name.startswith(_others(device, unit))):
            by_source.setdefault(f"{figure.by}: {figure.source}", []).append(f"{name} {figure.value:g}")
    notes += [f"{', '.join(names)}, {source}" for source, names in by_source.items()]
    return [*notes, *(f"not published: {text}" for text in device.lacks)]


def _others(device: Device, unit: str) -> tuple[str, ...]:
    return tuple(f"{each} " for each in device.units if each != unit)


def rank_plan(plan: DevicePlan) -> tuple[bool, float, int, bool]:
    """Priced ones first, the fastest first; what is not priced by memory; what is built for the device before what is not."""
    price = plan.reached_ms
    return price is None, round(price or 0.0, 3), plan.memory, not plan.deployment.target.needs_build


def _choose(plans: Sequence[DevicePlan]) -> DevicePlan:
    """The fastest that fits, with weights of 8 bits or more where there is such a one."""
    fitting = [each for each in plans if each.room is None or each.memory <= each.room] or list(plans)
    gentle = [each for each in fitting if _count_bits(each) >= LEAST_BITS] or fitting
    return min(gentle, key=rank_plan)


def _count_bits(plan: DevicePlan) -> float:
    from sprint_export.quantize.schemes.scheme import load_scheme

    return load_scheme(plan.deployment.offer.scheme).weights.bits


def list_dominating(plan: DevicePlan, prices: Prices | None) -> tuple[Dominating, ...]:
    """The names of kernels, numbers aside, that make most of the price of a picture."""
    peaks = None if plan.unit is None else list_peaks(plan.device, plan.unit)
    own = prices if prices is not None and prices.unit == plan.unit else None
    rates = own or (None if peaks is None else expect_reached(peaks))
    if rates is None:
        return ()
    groups: dict[str, list[float]] = {}
    for network in plan.networks:
        for kernel in network.work.kernels or ():
            groups.setdefault(_name_kernel(network.work.role, kernel), []).extend(
                [price_kernel(kernel, rates)] * network.work.times
            )
    whole = sum(map(sum, groups.values()))
    ranked = sorted(groups.items(), key=lambda group: -sum(group[1]))[:TOP]
    return tuple(Dominating(name, len(costs), sum(costs), sum(costs) / whole) for name, costs in ranked)


def _name_kernel(role: str, kernel: Work) -> str:
    """`transformer: transformer_blocks.*.ff.conv_inverted`."""
    return f"{role}: {re.sub(r'[0-9]+', '*', kernel.name)}"


def list_deployments(device: Device, targets: Sequence[str] = ()) -> list[Deployment]:
    """The pairs of target and precision to price on a device: those asked for, then all that run there and whose unit is known.

    Raises:
        InputError, RefusedError: one that was asked for is none, or cannot run there.
    """
    from sprint_export.run_checks import read_deployment

    found = [_complete(read_deployment(name, device.name)) for name in targets]
    for target in map(load_target, list_members("target")):
        for precision in target.precisions:
            if f"{target.name}-{precision}" in targets:
                continue
            try:
                deployment = _complete(read_deployment(f"{target.name}-{precision}", device.name))
            except RefusedError:
                continue
            if target.find_unit(precision, device, deployment.options) in (device.units or (device.compute_unit or "cpu",)):
                found.append(deployment)
    return found


def _complete(deployment: Deployment) -> Deployment:
    options = complete_options(deployment.target, deployment.precision, deployment.device, {})
    return replace(deployment, options=options)
