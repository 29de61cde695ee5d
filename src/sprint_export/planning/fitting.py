"""A price list that fits what was measured: constants that minimize the squared logarithms of measured / priced.

    one measured network     one factor on all rates together
    n                        at most n - 1 constants of their own, so that something is left to judge the fit by: of a type's
                             FLOP/s, the bandwidth and a kernel's cost those that mend most; the others keep the factor on all
A constant that none of the networks is bound by cannot be told from them and is kept. The fit starts from published peaks where
there are any, else from what one network at least reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sprint_export.errors import InputError
from sprint_export.nouns.work import Work
from sprint_export.planning.prices import Prices, price_work

MEMORY, LAUNCH = "memory", "kernel"
LEAST_SHARE = 0.05  # of the price of one network at least, for a constant to be told from measurements
WORTH = 0.8  # a further constant has to bring the sum of squares down to this share at least
LAUNCH_US = 1.0  # to start from, where no device says
Constants = Mapping[str, float]  # "int8" and other types in TFLOP/s, MEMORY in GB/s, LAUNCH in microseconds


@dataclass(frozen=True)
class Point:
    """One network that was measured: what it does, and its milliseconds."""

    name: str
    kernels: Sequence[Work]
    milliseconds: float


@dataclass(frozen=True)
class Residual:
    """A measured network beside its price, before the fit (None: there were no rates), after it, and fitted without it."""

    name: str
    measured_ms: float
    before_ms: float | None
    after_ms: float
    left_out_ms: float | None


@dataclass(frozen=True)
class Fit:
    """A fitted list, how each constant was before (absent: unknown), what was kept, and the networks beside their prices."""

    prices: Prices
    before: Constants
    kept: tuple[str, ...]
    residuals: tuple[Residual, ...]


def fit_prices(points: Sequence[Point], device: str, unit: str, peaks: Prices | None) -> Fit:
    """Fit the rates of a device's unit.

    Raises:
        InputError: nothing was measured.
    """
    if not points:
        raise InputError("nothing to fit: expected at least one measured network whose kernels are known")
    start = _start(points, device, unit, peaks)
    prices, own = _solve(points, start)
    left_out: list[float | None] = [None] * len(points)
    if len(points) > 2:
        for i, point in enumerate(points):
            others = [*points[:i], *points[i + 1 :]]
            left_out[i] = price_work(point.kernels, _solve(others, _start(others, device, unit, peaks, points))[0]).milliseconds
    residuals = tuple(
        Residual(
            point.name,
            point.milliseconds,
            None if peaks is None else price_work(point.kernels, peaks).milliseconds,
            price_work(point.kernels, prices).milliseconds,
            without,
        )
        for point, without in zip(points, left_out, strict=True)
    )
    constants = _list_constants(prices)
    fitted = own or tuple(constants)
    how = f"{', '.join(own)} each" if own else "one factor on all rates"
    basis = f"fitted to {len(points)} measured network{'s' if len(points) > 1 else ''}: {how}"
    before = {} if peaks is None else _list_constants(peaks)
    kept = tuple(name for name in constants if name not in fitted)
    return Fit(replace(prices, basis=basis, fitted=fitted), before, kept, residuals)


def _start(points: Sequence[Point], device: str, unit: str, peaks: Prices | None, all_points: Sequence[Point] = ()) -> Prices:
    """Peaks, and for what nobody publishes the most that a measured network reaches."""
    kinds = {work.dtype for point in (*points, *all_points) for work in point.kernels if work.flop}
    known = dict(peaks.tflops) if peaks is not None else {}
    reached = max(sum(work.flop for work in point.kernels) / point.milliseconds for point in points) / 1e9
    moved = max(sum(work.bytes for work in point.kernels) / point.milliseconds for point in points) / 1e6
    tflops = {kind: rate for kind, rate in known.items() if kind in kinds}
    tflops |= {kind: max(reached, 1e-6) for kind in sorted(kinds) if kind not in known}
    bandwidth = peaks.gigabytes_per_s if peaks is not None and peaks.gigabytes_per_s else max(moved, 1e-6)
    return Prices(device, unit, tflops, bandwidth, peaks.kernel_us if peaks is not None else LAUNCH_US, "")


def _solve(points: Sequence[Point], start: Prices) -> tuple[Prices, tuple[str, ...]]:
    """The fitted rates, and the names of constants that got a value of their own: each the one that mends most, while it does."""
    tables = [_Table(point) for point in points]
    logs = [math.log(table.milliseconds / table.price(start)) for table in tables]
    prices = start.scale(math.exp(-sum(logs) / len(logs)), "")
    told = {name for name in _list_constants(prices) if max(table.share(name, prices) for table in tables) >= LEAST_SHARE}
    own: tuple[str, ...] = ()
    best, missed = prices, _miss(tables, prices)
    while told - {*own} and len(own) < len(points) - 1:
        tried = {name: _minimize(tables, prices, (*own, name)) for name in sorted(told - {*own})}
        name = min(tried, key=lambda each: _miss(tables, tried[each]))
        if _miss(tables, tried[name]) > WORTH * missed:
            break
        own, best, missed = (*own, name), tried[name], _miss(tables, tried[name])
    return best, own


def _miss(tables: Sequence[_Table], prices: Prices) -> float:
    """The sum of squares that a fit makes small."""
    return sum(math.log(table.price(prices) / table.milliseconds) ** 2 for table in tables)


def _minimize(tables: Sequence[_Table], prices: Prices, own: Sequence[str]) -> Prices:
    """The list with these constants where the sum of squares is least."""
    import numpy as np
    from scipy.optimize import least_squares

    constants = _list_constants(prices)

    def apply(logs: Sequence[float]) -> Prices:
        return _set_constants(prices, {name: constants[name] * math.exp(value) for name, value in zip(own, logs, strict=True)})

    def miss(logs: Sequence[float]) -> list[float]:
        tried = apply(logs)
        return [math.log(table.price(tried) / table.milliseconds) for table in tables]

    found = least_squares(miss, np.zeros(len(own)), bounds=(-6.0, 6.0))
    return apply([float(value) for value in found.x])


class _Table:
    """A measured network's kernels as arrays, which are priced some thousand times."""

    def __init__(self, point: Point) -> None:
        import numpy as np

        self.milliseconds = point.milliseconds
        self._bytes = np.array([work.bytes for work in point.kernels])
        kinds = [work.dtype if work.flop else "" for work in point.kernels]
        flop = np.array([work.flop for work in point.kernels])
        self._flop = {kind: flop * np.array([each == kind for each in kinds]) for kind in {*kinds} - {""}}

    def price(self, prices: Prices) -> float:
        """Milliseconds, as price_work gives them."""
        return float(sum(self._split(prices).values()))

    def share(self, name: str, prices: Prices) -> float:
        """How much of the price a constant makes."""
        return float(self._split(prices).get(name, 0.0)) / self.price(prices)

    def _split(self, prices: Prices) -> dict[str, float]:
        """Milliseconds by the constant that they hang on."""
        import numpy as np

        memory = self._bytes / ((prices.gigabytes_per_s or math.inf) * 1e6)
        parts = {LAUNCH: len(self._bytes) * prices.kernel_us / 1e3}
        computes = False
        for kind, flop in self._flop.items():
            compute = flop / (prices.tflops[kind] * 1e9)
            parts[kind] = float(np.sum(np.where(compute > memory, compute, 0.0)))
            computes = computes | (compute > memory)
        parts[MEMORY] = float(np.sum(np.where(computes, 0.0, memory)))
        return parts


def _list_constants(prices: Prices) -> dict[str, float]:
    memory = {MEMORY: prices.gigabytes_per_s} if prices.gigabytes_per_s is not None else {}
    return {**prices.tflops, **memory, LAUNCH: prices.kernel_us}


def _set_constants(prices: Prices, constants: Constants) -> Prices:
    tflops = {kind: constants.get(kind, rate) for kind, rate in prices.tflops.items()}
    return replace(
        prices,
        tflops=tflops,
        gigabytes_per_s=constants.get(MEMORY, prices.gigabytes_per_s),
        kernel_us=constants.get(LAUNCH, prices.kernel_us),
    )
