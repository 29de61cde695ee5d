"""Latency of a bundle on this machine: pictures and networks, cold starts, memory, other sides, and under which conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sprint_export.export.bundle import read_bundle
from sprint_export.libraries import check_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Gate, Measurement, Report
from sprint_export.progress import Progress, Step, quiet, track
from sprint_export.runtimes.hub import find_bundle
from sprint_export.session import list_findings
from sprint_export.validate.gates import apply_gates, read_gates
from sprint_export.validate.latency.bundle_side import PROMPT, BundleSide
from sprint_export.validate.latency.cold_start import ColdStart, describe_starts, start_cold, start_several
from sprint_export.validate.latency.loadgen import LIBRARY, describe_stream, run_single_stream
from sprint_export.validate.latency.opponents import Opponent, open_opponent, read_opponent
from sprint_export.validate.latency.request import CLIENT, STREAM, BenchRequest
from sprint_export.validate.latency.results import Bench, Conditions
from sprint_export.validate.latency.rows import (
    WHOLE,
    check_gate_metrics,
    describe_drift,
    describe_mean,
    describe_ratio,
    describe_sweep,
    describe_timed,
    list_minutes,
)
from sprint_export.validate.latency.turns import Side, Turns, compare_turns
from sprint_export.validate.latency.watch import Watch, count_processors
from sprint_export.validate.machine import describe_machine

OPENING = "opening"


def time_bundle(
    folder: str | Path, runs: int | None = 10, runtime: str | None = None, progress: Progress = quiet, provider: str | None = None
) -> Report:
    """Draw `runs` times after drawings that warm up, and report milliseconds a picture; no cold start.

    Args:
        folder: the bundle, or its hub id.
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
        folder: the bundle, or its hub id.
        progress: is told (step, done, total).
        asked: fields of `BenchRequest`, by name.

    Raises:
        InputError: no bundle there, or what is asked for makes no sense. MachineError: nothing here can run it.
    """
    request = BenchRequest(**asked)
    gates = read_gates(request.gates)
    check_gate_metrics(gates)
    opponents = [read_opponent(text, progress) for text in request.against]
    if request.protocol == STREAM:
        check_installed((LIBRARY,))
    bundle = read_bundle(find_bundle(folder, progress), verify=False)
    watch = Watch()
    sides = _open_sides(bundle, request, opponents, progress)
    own = sides[0]
    assert isinstance(own, BundleSide)
    turns = Turns(sides, request.length, watch, progress=progress)
    turns.warm_up()
    streamed = _draw(turns, request)
    drawn, others_share = turns.drawn[0], watch.find_others_share()
    start = partial(start_cold, bundle.folder, request.where, PROMPT)
    starts = start_several(start, request.cold_starts, progress)
    minutes = list_minutes(drawn) if request.minutes is not None else []
    ratios = [(side, compare_turns(drawn, theirs)) for side, theirs in zip(sides[1:], turns.drawn[1:], strict=True)]
    rows = [
        *describe_timed(drawn, own.pictures, elsewhere=[each.p50_s for each in starts if own.pictures == own.pipeline.batch]),
        *(describe_mean(drawn, own.pictures) if request.protocol == CLIENT else []),
        *streamed,
        *describe_drift(minutes),
        *describe_starts(starts),
        *_describe_memory(watch),
        *(found.as_row(role) for role, session in own.pipeline.sessions.items() for found in list_findings(session)),
        *(describe_ratio(side, *found) for side, found in ratios if len(request.batches) < 2),
    ]
    others: list[Measurement] = []
    for side, theirs in zip(sides[1:], turns.drawn[1:], strict=True):
        others += (
            describe_sweep(theirs, side) if len(request.batches) > 1 else describe_timed(theirs, side.pictures, of=side.label)
        )
    report = _make_report(bundle, own, rows, turns, gates)
    report = replace(report, rows=(*report.rows, *others))
    conditions = _describe_conditions(turns, starts, minutes, request)
    return Bench(report, replace(conditions, others_share=others_share), bundle.identity)


def _open_sides(bundle: Bundle, request: BenchRequest, opponents: Sequence[Opponent], progress: Progress) -> list[Side]:
    """The bundle, once for each number of pictures at once, then what it is timed against."""
    first = BundleSide.open(bundle, request.where, next(iter(request.batches), None))
    sides: list[Side] = [first, *map(first.draw_others, request.batches[1:])]
    for opponent in track(opponents, Step(OPENING), progress):
        sides.append(open_opponent(opponent, bundle, request.student, request.compute, request.where, first.pictures))
    return sides


def _draw(turns: Turns, request: BenchRequest) -> list[Measurement]:
    """Have the sides draw, by LoadGen where its protocol is asked for; what it says itself."""
    if request.protocol != STREAM:
        turns.draw()
        return []
    return describe_stream(run_single_stream(turns.draw_one, request.minutes, request.runs))


def _make_report(bundle: Bundle, side: BundleSide, rows: Sequence[Measurement], turns: Turns, gates: Sequence[Gate]) -> Report:
    """The report of a bundle's rows, judged by gates."""
    name, drawn = f"{bundle.target}-{bundle.precision}", turns.drawn[0]
    judged = apply_gates(rows, gates, gates)
    seconds = round(sum(each.seconds for each in drawn), 3)
    return Report(str(bundle.folder), name, side.description, describe_machine(), len(drawn), judged, seconds)


def _describe_conditions(turns: Turns, starts: Sequence[ColdStart], minutes: Sequence[Any], request: BenchRequest) -> Conditions:
    """How the first side was timed, and beside which others."""
    watch, drawn, side = turns.watch, turns.drawn[0], turns.sides[0]
    is_known = any(each.waited is not None for each in drawn)
    throttled, why = watch.find_throttling()
    gpu = watch.gpu
    return Conditions(
        protocol=request.protocol,
        runs=len(drawn),
        warm_up=turns.warmed,
        batch=side.pictures,
        disturbed=sum(not each.is_quiet for each in drawn) if is_known else None,
        processors=count_processors(),
        threads=watch.threads,
        asked_threads=request.threads,
        replayed=bool(side.replays),
        launches=describe_launches(side.replays),
        device=describe_machine().rsplit(",", 2)[0] if gpu is None else gpu.name,
        clock_mhz=tuple(watch.pick_clocks()),
        throttled=throttled,
        throttling=why,
        cold_starts=tuple(round(each.total_s, 4) for each in starts),
        minutes=tuple(minutes),
        others=tuple(
            {
                "label": each.label,
                "runtime": each.description,
                "launches": describe_launches(each.replays),
                "batch": each.pictures,
            }
            for each in turns.sides[1:]
        ),
    )


def describe_launches(replays: bool | None) -> str:
    """What `replayed` means here."""
    if replays is None:
        return "not applicable: nothing is launched that could be replayed"
    return "replayed from a recorded graph" if replays else "each kernel launched by the host, whose time is part of the latency"


def _describe_memory(watch: Watch) -> list[Measurement]:
    if watch.device_memory_mb is None or watch.gpu is None:
        return []
    note = f"by how much more of {watch.gpu.name} was held than before, by all sides here and by other programs"
    return [Measurement("device_memory_mb", watch.device_memory_mb, "MB", WHOLE, note=note)]
