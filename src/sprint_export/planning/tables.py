"""A plan as lines for a terminal and as JSON values; every figure says whether it is priced or measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sprint_export.amounts import show_bytes
from sprint_export.json_forms import to_json
from sprint_export.planning.advice import Advice
from sprint_export.planning.fitting import Constants, Fit
from sprint_export.planning.plan import Answer, DevicePlan, NetworkPlan, rank_plan
from sprint_export.planning.prices import Price, Prices

UNKNOWN = "unknown"
UNITS = {"memory": "GB/s", "kernel": "us a kernel"}


def describe_answer(answer: Answer, advices: tuple[Advice, ...]) -> Iterator[str]:
    """The plan for one device."""
    plan = answer.chosen
    where = f", on its {plan.unit}" if plan.unit else ""
    yield f"{plan.device.name}: {plan.device.title}; {plan.name}{where}"
    yield f"  memory, planned: {show_bytes(plan.memory)} with all networks there, {show_bytes(plan.memory_apart)} one at a time"
    yield f"    {_show_parts(plan)}"
    if plan.held_mb is not None:
        yield f"    measured: {plan.held_mb:,.0f} MB; measured / planned {plan.held_mb * 1e6 / plan.memory:.2f}"
    yield f"  {_say_whether_it_fits(plan)}"
    yield f"  time of a picture, rates: {plan.basis}"
    yield from _tabulate_networks(plan)
    if answer.dominating:
        yield "  what dominates, priced:"
        for each in answer.dominating:
            yield f"    {each.share:5.1%}  {each.milliseconds:8.3f} ms  {each.count:4} x {each.name}"
    if advices:
        yield "  what would help, priced:"
        for advice in advices:
            yield f"    {_show_advice(advice)}"
    if answer.others:
        yield "  all pairs on it, priced, the fastest first:"
        for pair in sorted((plan, *answer.others), key=rank_plan):
            yield _show_pair(pair) + (" (this one)" if pair is plan else "")
    for note in plan.notes:
        yield f"  note: {note}"


def _show_pair(plan: DevicePlan) -> str:
    fits = "" if plan.room is None else (", fits" if plan.memory <= plan.room else ", does not fit at once")
    return f"    {plan.name:<15} {_show_ms(plan.reached_ms, plan.is_least):>12}  {show_bytes(plan.memory)}{fits}"


def _show_parts(plan: DevicePlan) -> str:
    parts = [
        f"{each.work.role} {show_bytes(each.work.weights)} + "
        + (UNKNOWN if each.work.activations is None else show_bytes(each.work.activations))
        for each in plan.networks
    ]
    return f"weights + activations: {', '.join(parts)}; the runtime {show_bytes(plan.runtime) if plan.runtime else 'not counted'}"


def _say_whether_it_fits(plan: DevicePlan) -> str:
    if plan.room is None:
        return f"whether it fits is not known: no memory of {plan.device.name}'s {plan.unit} is in the device table"
    room = show_bytes(plan.room)
    what = f"an app may hold {room}" if plan.device.app_gb is not None else f"it has {room}, of which other programs take a part"
    if plan.memory <= plan.room:
        return f"fits: {what}"
    if plan.memory_apart <= plan.room:
        return f"fits one network at a time, not all at once: {what}"
    return f"does not fit: {what}"


def _tabulate_networks(plan: DevicePlan) -> Iterator[str]:
    has_measured = any(each.measured_ms is not None for each in plan.networks) or plan.measured_ms is not None
    head = f"    {'network':<18}{'kernels':>8}{'GFLOP':>10}{'moved':>10}{'at peaks':>13}{'expected':>13}  bound by"
    yield head + (f"{'measured':>12}{'/ expected':>12}" if has_measured else "")
    for each in plan.networks:
        yield _show_network(each) + (_show_measured(each.measured_ms, each.reached) if has_measured else "")
    whole = (
        f"    {'a picture':<36}{'':>10}{_show_ms(plan.peak_ms, plan.is_least):>13}{_show_ms(plan.reached_ms, plan.is_least):>13}"
    )
    if has_measured and plan.measured_ms is not None:
        ratio = f"{plan.measured_ms / plan.reached_ms:12.2f}" if plan.reached_ms else ""
        whole += f"{'':10}{plan.measured_ms:9.2f} ms{ratio}"
    yield whole


def _show_network(each: NetworkPlan) -> str:
    times = f" x {each.work.times}" if each.work.times > 1 else ""
    if each.work.kernels is None:
        return f"    {each.work.role + times:<18}{UNKNOWN:>8}"
    flop, moved = sum(work.flop for work in each.work.kernels), sum(work.bytes for work in each.work.kernels)
    bound = each.reached.bound if each.reached is not None else UNKNOWN
    prices = "".join(f"{_show_price(price):>13}" for price in (each.peak, each.reached))
    counts = f"{len(each.work.kernels):>8}{_show_count(flop / 1e9):>10}{show_bytes(moved):>10}"
    return f"    {each.work.role + times:<18}{counts}{prices}  {bound:<8}"


def _show_measured(measured: float | None, price: Price | None) -> str:
    if measured is None:
        return f"{'':>24}"
    ratio = f"{measured / price.milliseconds:12.2f}" if price is not None else ""
    return f"{measured:9.2f} ms{ratio}"


def _show_price(price: Price | None) -> str:
    return _show_ms(None if price is None else price.milliseconds, price is not None and bool(price.unknown))


def _show_ms(value: float | None, is_least: bool) -> str:
    return "not priced" if value is None else f"{'>= ' if is_least else ''}{value:,.2f} ms"


def _show_advice(advice: Advice) -> str:
    time = "" if advice.saves_ms is None else f"{_show_change(advice.saves_ms, 'ms', 1)}, "
    notes = "".join(f"; {note}" for note in (advice.note, "it fits" if advice.makes_fit else "") if note)
    return f"{advice.change}: {time}{_show_change(advice.saves_mb, 'MB', 0)}{notes}"


def _show_change(saved: float, unit: str, digits: int) -> str:
    return f"{abs(saved):,.{digits}f} {unit} {'less' if saved >= 0 else 'more'}"


def _show_count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def describe_fit(fit: Fit) -> Iterator[str]:
    """A fitted price list: constants before and after, and each network beside its price."""
    prices = fit.prices
    yield f"prices of {prices.device}'s {prices.unit}: {prices.basis}"
    for name, value in _list_rates(prices).items():
        before = _compare_rate(name, value, fit.before)
        kept = "; kept, with the factor on all" if name in fit.kept else ""
        yield f"    {name}: {value:.4g} {UNITS.get(name, 'TFLOP/s')} ({before}){kept}"
    yield f"    {'network':<34}{'measured':>12}{'at peaks':>12}{'fitted':>12}{'ratio':>8}{'fitted without it':>20}"
    for each in fit.residuals:
        before = "" if each.before_ms is None else f"{each.before_ms:9.2f} ms"
        without = "" if each.left_out_ms is None else f"{each.left_out_ms:9.2f} ms {each.measured_ms / each.left_out_ms:5.2f}"
        ratio = each.measured_ms / each.after_ms
        yield f"    {each.name:<34}{each.measured_ms:9.2f} ms{before:>12}{each.after_ms:9.2f} ms{ratio:8.2f}{without:>20}"


def _compare_rate(name: str, value: float, before: Constants) -> str:
    if name not in before:
        return "none published"
    return f"before {before[name]:g}" if name == "kernel" else f"published {before[name]:g}, reached {value / before[name]:.0%}"


def _list_rates(prices: Prices) -> Constants:
    memory = {} if prices.gigabytes_per_s is None else {"memory": prices.gigabytes_per_s}
    return {**prices.tflops, **memory, "kernel": prices.kernel_us}


def tabulate_answer(answer: Answer, advices: tuple[Advice, ...]) -> Mapping[str, Any]:
    """The plan for one device as JSON values; times in milliseconds, sizes in bytes."""
    device = answer.device
    return {
        "device": device.name,
        "title": device.title,
        "figures": to_json(device.figures),
        "not_published": list(device.lacks),
        **_tabulate_plan(answer.chosen),
        "dominating": to_json(answer.dominating),
        "would_help": to_json(advices),
        "pairs": [_tabulate_pair(each) for each in (answer.chosen, *answer.others)],
    }


def _tabulate_plan(plan: DevicePlan) -> dict[str, Any]:
    return {
        **_tabulate_pair(plan),
        "basis": plan.basis,
        "runtime": plan.runtime,
        "measured": {"picture_ms": plan.measured_ms, "memory_mb": plan.held_mb},
        "networks": [_tabulate_network(each) for each in plan.networks],
        "notes": list(plan.notes),
    }


def _tabulate_pair(plan: DevicePlan) -> dict[str, Any]:
    return {
        "target": plan.name,
        "unit": plan.unit,
        "memory": {"all": plan.memory, "one_at_a_time": plan.memory_apart, "room": plan.room},
        "fits": None if plan.room is None else plan.memory <= plan.room,
        "priced": {"at_peaks_ms": plan.peak_ms, "expected_ms": plan.reached_ms, "is_least": plan.is_least},
    }


def _tabulate_network(each: NetworkPlan) -> dict[str, Any]:
    kernels = each.work.kernels
    return {
        "network": each.work.role,
        "times": each.work.times,
        "kernels": None if kernels is None else len(kernels),
        "flop": None if kernels is None else sum(work.flop for work in kernels),
        "moved": None if kernels is None else sum(work.bytes for work in kernels),
        "origin": each.work.origin,
        "weights": each.work.weights,
        "activations": each.work.activations,
        "priced": {
            "at_peaks": _tabulate_price(each.peak),
            "expected": _tabulate_price(each.reached),
        },
        "measured_ms": each.measured_ms,
    }


def _tabulate_price(price: Price | None) -> dict[str, Any] | None:
    if price is None:
        return None
    return {"ms": price.milliseconds, "by": dict(price.by_bound), "unknown": sorted(price.unknown)}
