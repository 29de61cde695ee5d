"""What work costs on a compute unit: a roofline with the rates that are reached.

    milliseconds of a kernel = max(FLOP / rate of the type, bytes / bandwidth) + the cost of one kernel
Rates are a device's published peaks (a price that no program beats), these times an efficiency, or fitted to measurements of a
user's own device. Where nobody publishes a rate, that part of the price is left out, and the price is a least one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from sprint_export.devices import KERNEL_US
from sprint_export.nouns.target import Device
from sprint_export.nouns.work import Work

Bound = Literal["compute", "memory", "launches"]
BOUNDS: tuple[Bound, ...] = ("compute", "memory", "launches")

# The share of peaks that is reached: one factor on all rates, fitted to the three networks of SANA-Sprint 0.6B on an H200, bf16,
# compiled by Inductor, replayed as a CUDA graph (benchmarks/plan_measured.py, docs/plan.md). Other devices are taken to be alike.
REACHED = 0.43


@dataclass(frozen=True)
class Prices:
    """Rates of one compute unit: TFLOP/s by type, GB/s (None: not known), microseconds a kernel.

    `basis` says in words where the rates are from; `fitted` names those that were fitted to measurements.
    """

    device: str
    unit: str
    tflops: Mapping[str, float]
    gigabytes_per_s: float | None
    kernel_us: float
    basis: str
    fitted: tuple[str, ...] = ()

    def scale(self, share: float, basis: str) -> Prices:
        """All rates times a share, launches too."""
        return replace(
            self,
            tflops={kind: rate * share for kind, rate in self.tflops.items()},
            gigabytes_per_s=None if self.gigabytes_per_s is None else self.gigabytes_per_s * share,
            kernel_us=self.kernel_us / share,
            basis=basis,
        )


@dataclass(frozen=True)
class Price:
    """Milliseconds of some work, how much of it each bound makes, and the kinds of rates that were not known."""

    milliseconds: float
    by_bound: Mapping[Bound, float]
    unknown: frozenset[str] = field(default_factory=frozenset)

    @property
    def bound(self) -> Bound:
        """What makes most of it."""
        return max(BOUNDS, key=lambda each: self.by_bound[each])


def list_peaks(device: Device, unit: str) -> Prices | None:
    """The published figures of a device's unit; None where neither peaks nor bandwidth are known."""
    tflops = device.units.get(unit, {})
    bandwidth = device.gigabytes_per_s if unit in device.units or unit == device.compute_unit else 0.0
    if not tflops and not bandwidth:
        return None
    launch = device.kernel_us or KERNEL_US
    return Prices(device.name, unit, tflops, bandwidth or None, launch, "peaks of the device table, which no program beats")


def expect_reached(peaks: Prices) -> Prices:
    """What programs are expected to reach of peaks."""
    return peaks.scale(
        REACHED, f"{REACHED:.0%} of the peaks, as compiled networks reach on an H200; not measured on {peaks.device}"
    )


def price_work(works: Iterable[Work], prices: Prices, pictures: int = 1) -> Price:
    """The price of kernels that run one after the other, for one of the pictures that they make at once."""
    total: dict[Bound, float] = dict.fromkeys(BOUNDS, 0.0)
    unknown: set[str] = set()
    for work in works:
        compute, memory = time_parts(work, prices)
        if work.flop and compute is None:
            unknown.add(work.dtype)
        if memory is None:
            unknown.add("memory")
        first, second = compute or 0.0, memory or 0.0
        total["compute" if first > second else "memory"] += max(first, second)
        total["launches"] += prices.kernel_us / 1e3
    by_bound = {bound: milliseconds / pictures for bound, milliseconds in total.items()}
    return Price(sum(by_bound.values()), by_bound, frozenset(unknown))


def time_parts(work: Work, prices: Prices) -> tuple[float | None, float | None]:
    """Milliseconds of a kernel's arithmetic and of its bytes; None where the rate is not known."""
    rate = prices.tflops.get(work.dtype) if work.flop else None
    compute = work.flop / (rate * 1e9) if rate else (None if work.flop else 0.0)
    memory = work.bytes / (prices.gigabytes_per_s * 1e6) if prices.gigabytes_per_s else None
    return compute, memory


def price_kernel(work: Work, prices: Prices) -> float:
    """Milliseconds of one kernel, as far as its rates are known."""
    compute, memory = time_parts(work, prices)
    return max(compute or 0.0, memory or 0.0) + prices.kernel_us / 1e3
