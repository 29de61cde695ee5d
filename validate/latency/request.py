"""What a bench is asked for: fields that are checked before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sprint_export.batches import MOST
from sprint_export.compute import CPU, Compute
from sprint_export.errors import InputError, unknown_choice
from sprint_export.nouns.report import Gate
from sprint_export.validate.latency.bundle_side import Where
from sprint_export.validate.latency.turns import Length

if TYPE_CHECKING:
    from sprint_export.nouns.student import Student

OWN, CLIENT, STREAM = "own", "mlperf-client", "mlperf-single-stream"
PROTOCOLS = (OWN, CLIENT, STREAM)
MOST_THREADS = 1024
CLIENT_WARM_UP, CLIENT_RUNS = 1, 4  # of MLPerf Client 2.0's text-to-image


@dataclass(frozen=True)
class BenchRequest:
    """What a bench is asked for, beside the bundle.

    Args:
        runs: counted drawings; default: what ten seconds hold, at least 10, and more while other programs take the processors.
        warm_up: drawings before; default: at least 2, and more until a second has passed.
        minutes: draw for so long in place of a number, and say how the p50 moves.
        spread: seconds over which the drawings are spread, with pauses: the interval of a p50 knows of drifts within them.
            Default: 30 where neither runs nor minutes are given, else 0.
        runtime: as in `open_bundle`.
        provider: likewise.
        cold_starts: fresh processes; default: up to 3 within 20 seconds; 0: none.
        gates: demands such as 'latency_p50_ms<=20'; all of them hold, for every network and the whole picture.
        protocol: one of PROTOCOLS.
        against: what draws in turn with the bundle: `pytorch`, `pytorch-compile`, either with `:bf16`, or a bundle's folder.
        student: of `pytorch`; default: the one it was made from, where that is embedded or random.
        compute: where PyTorch computes.
        batches: pictures at once; several draw in turn. Default: what the graphs take at once.
        threads: of the CPU that each network may take, on every side; default: as many as each side's library chooses.
    """

    runs: int | None = None
    warm_up: int | None = None
    minutes: float | None = None
    spread: float | None = None
    runtime: str | None = None
    provider: str | None = None
    cold_starts: int | None = None
    gates: Sequence[str | Gate] = ()
    protocol: str = OWN
    against: Sequence[str] = ()
    student: Student | None = None
    compute: Compute = CPU
    batches: Sequence[int] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise unknown_choice("protocol", self.protocol, PROTOCOLS)
        self._check_numbers()
        if self.protocol == CLIENT and (self.runs, self.warm_up, self.minutes) != (None, None, None):
            raise InputError(
                f"protocol {CLIENT} is {CLIENT_WARM_UP} drawing to warm up and {CLIENT_RUNS} that count; leave runs out"
            )
        if len(self.batches) > 1 and (self.against or self.protocol != OWN):
            raise InputError(f"batches={list(self.batches)}: several go with no protocol and no other side; expected one number")
        if self.protocol == STREAM and self.against:
            raise InputError(f"protocol {STREAM} asks one side for its pictures; leave against out")

    def _check_numbers(self) -> None:
        if self.runs is not None and self.runs < 1:
            raise InputError(f"runs={self.runs}: expected at least 1")
        if self.runs is not None and self.minutes is not None and self.protocol != STREAM:
            raise InputError(f"runs={self.runs} and minutes={self.minutes:g}: expected one of them")
        if self.minutes is not None and not 0 < self.minutes <= 24 * 60:
            raise InputError(f"minutes={self.minutes:g}: expected more than 0, at most a day (1440)")
        if self.spread is not None and not 0 <= self.spread <= 24 * 3600:
            raise InputError(f"spread={self.spread:g}: expected seconds, at most a day")
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise InputError(f"threads={self.threads}: expected 1 to {MOST_THREADS}")
        for name in ("warm_up", "cold_starts"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"{name}={value}: expected 0 or more")
        for count in self.batches:
            if not 1 <= count <= MOST:
                raise InputError(f"batches: {count} pictures at once: expected 1 to {MOST}")
        if len(set(self.batches)) < len(self.batches):
            raise InputError(f"batches={list(self.batches)}: expected each once")

    @property
    def where(self) -> Where:
        """What runs a side."""
        return Where(self.runtime, self.provider, self.threads)

    @property
    def length(self) -> Length:
        """How long is drawn."""
        if self.protocol == CLIENT:
            return Length(CLIENT_RUNS, CLIENT_WARM_UP, spread=0.0)
        return Length(self.runs, self.warm_up, self.minutes, spread=self.spread)
