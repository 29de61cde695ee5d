"""Latency of a bundle on this machine: pictures and networks, cold starts, memory, and under which conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sprint_export.errors import InputError
from sprint_export.export.bundle import read_bundle
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Gate, Measurement, Report
from sprint_export.progress import Progress, Step, quiet
from sprint_export.session import list_findings
from sprint_export.validate.gates import apply_gates, read_gates
from sprint_export.validate.latency.bundle_side import PROMPT, BundleSide
from sprint_export.validate.latency.cold_start import ColdStart, describe_starts, start_cold, start_several
from sprint_export.validate.latency.results import Bench, Conditions
from sprint_export.validate.latency.rows import WHOLE, check_gate_metrics, describe_drift, describe_timed, list_minutes
from sprint_export.validate.latency.turns import Length, Timed, Turns
from sprint_export.validate.latency.watch import Watch, count_processors
from sprint_export.validate.machine import describe_machine

OWN = "own"
OPENING = Step("opening")


@dataclass(frozen=True)
class BenchRequest:
    """What a bench is asked for, beside the bundle.

    Args:
        runs: counted drawings; default: what ten seconds hold, at least 10, and more while other programs take the processors.
        warm_up: drawings before; default: at least 2, and more until a second has passed.
        minutes: draw for so long in place of a number, and say how the p50 moves.
        runtime: as in `open_bundle`.
        provider: likewise.
        cold_starts: fresh processes; default: up to 3 within 20 seconds; 0: none.
        gates: demands such as 'latency_p50_ms<=20'; all of them hold, for every network and the whole picture.
    """

    runs: int | None = None
    warm_up: int | None = None
    minutes: float | None = None
    runtime: str | None = None
    provider: str | None = None
    cold_starts: int | None = None
    gates: Sequence[str | Gate] = ()

    def __post_init__(self) -> None:
        if self.runs is not None and self.runs < 1:
            raise InputError(f"runs={self.runs}: expected at least 1")
        if self.runs is not None and self.minutes is not None:
            raise InputError(f"runs={self.runs} and minutes={self.minutes:g}: expected one of them")
        if self.minutes is not None and not 0 < self.minutes <= 24 * 60:
            raise InputError(f"minutes={self.minutes:g}: expected more than 0, at most a day (1440)")
        for name in ("warm_up", "cold_starts"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"{name}={value}: expected 0 or more")


def time_bundle(
    folder: str | Path, runs: int | None = 10, runtime: str | None = None, progress: Progress = quiet, provider: str | None = None
) -> Report:
    """Draw `runs` times after drawings that warm up, and report milliseconds a picture; no cold start.

    Args:
        folder: the bundle.
        runs: counted drawings, each of as many pictures as the graphs take at once; None: what ten seconds hold.
        runtime: as in `open_bundle`.
        progress: is told (step, done, total).
        provider: as in `open_bundle`.

    Raises:
        InputError: fewer than one run, or no bundle there.
    """
    return bench_bundle(folder, progress, runs=runs, runtime=runtime, provider=provider, cold_starts=0).report


def bench_bundle(folder: str | Path, progress: Progress = quiet, **asked: Any) -> Bench:
    """Time a bundle: every network and the whole picture, cold starts, memory; what the machine did meanwhile.

    Args:
        folder: the bundle.
        progress: is told (step, done, total).
        asked: fields of `BenchRequest`, by name.

    Raises:
        InputError: no bundle there, or what is asked for makes no sense. MachineError: nothing here can run it.
    """
    request = BenchRequest(**asked)
    gates = read_gates(request.gates)
    check_gate_metrics(gates)
    bundle = read_bundle(Path(folder), verify=False)
    watch = Watch()
    progress(OPENING, 0, 1)
    side = BundleSide.open(bundle, request.runtime, request.provider)
    progress(OPENING, 1, 1)
    turns = Turns([side], Length(request.runs, request.warm_up, request.minutes), watch, progress=progress)
    turns.warm_up()
    (drawn,) = turns.draw()
    start = partial(start_cold, bundle.folder, request.runtime, request.provider, PROMPT)
    starts = start_several(start, request.cold_starts, progress)
    minutes = list_minutes(drawn) if request.minutes is not None else []
    rows = [
        *describe_timed(drawn, side.pictures),
        *describe_drift(minutes),
        *describe_starts(starts),
        *_describe_memory(watch),
        *(found.as_row(role) for role, session in side.pipeline.sessions.items() for found in list_findings(session)),
    ]
    conditions = describe_conditions(side, turns, starts, minutes)
    return Bench(make_report(bundle, side, rows, drawn, gates), conditions, bundle.identity)


def make_report(
    bundle: Bundle, side: BundleSide, rows: Sequence[Measurement], drawn: Sequence[Timed], gates: Sequence[Gate]
) -> Report:
    """The report of a bundle's rows, judged by gates."""
    name = f"{bundle.target}-{bundle.precision}"
    judged = apply_gates(rows, gates, gates)
    seconds = round(sum(each.seconds for each in drawn), 3)
    return Report(str(bundle.folder), name, side.description, describe_machine(), len(drawn), judged, seconds)


def describe_conditions(side: BundleSide, turns: Turns, starts: Sequence[ColdStart], minutes: Sequence[Any] = ()) -> Conditions:
    """How a side was timed."""
    watch, drawn = turns.watch, turns.drawn[0]
    is_known = any(each.waited is not None for each in drawn)
    throttled, why = watch.find_throttling()
    gpu = watch.gpu
    return Conditions(
        protocol=OWN,
        runs=len(drawn),
        warm_up=turns.warmed,
        batch=side.pictures,
        disturbed=sum(not each.is_quiet for each in drawn) if is_known else None,
        processors=count_processors(),
        threads=watch.threads,
        replayed=bool(side.replays),
        launches=describe_launches(side.replays),
        device=describe_machine().rsplit(",", 2)[0] if gpu is None else gpu.name,
        clock_mhz=tuple(watch.pick_clocks()),
        throttled=throttled,
        throttling=why,
        cold_starts=tuple(round(each.total_s, 4) for each in starts),
        minutes=tuple(minutes),
    )


def describe_launches(replays: bool | None) -> str:
    """What `replayed` means here."""
    if replays is None:
        return "not applicable: nothing is launched that could be replayed"
    return "replayed from a recorded graph" if replays else "each kernel launched by the host, whose time is part of the latency"


def _describe_memory(watch: Watch) -> list[Measurement]:
    if watch.device_memory_mb is None or watch.gpu is None:
        return []
    note = f"by how much more of {watch.gpu.name} was held than before the bundle was opened, other programs' too"
    return [Measurement("device_memory_mb", watch.device_memory_mb, "MB", WHOLE, note=note)]
