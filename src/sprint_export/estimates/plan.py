"""The plan of a run: its stages with expected seconds and memory, what it needs of the disk, and what is free.

A dry run reads and specializes the student as the run will, so these stages are measured, not estimated, and what is wrong with a
student is said in the same words. Beyond the choices it prints it leaves nothing behind.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from sprint_export.amounts import show_bytes
from sprint_export.cache import cache_folder
from sprint_export.conversion import READING, SPECIALIZING, Loaded, load_orders
from sprint_export.estimates.jobs import Planned, Shared, plan_job
from sprint_export.estimates.machine import TYPICAL, Machine, measure_machine
from sprint_export.estimates.stages import Estimate, estimate_job
from sprint_export.nouns.order import CheckedOrder
from sprint_export.nouns.student import Student
from sprint_export.process_memory import find_free_memory, find_used_memory
from sprint_export.progress import Progress, Step, quiet
from sprint_export.recipe_choice import is_searched
from sprint_export.run_checks import load_libraries
from sprint_export.students.source import find_absent

BEFORE = (Step("loading"), READING, SPECIALIZING)  # stages that a dry run goes through itself
WORTH_MEASURING_S = 60.0  # a run that takes less is not held up to measure the machine


@dataclass(frozen=True)
class Place:
    """A folder that a run fills: what for, how many bytes at most, and how many its disk has free."""

    what: str
    folder: Path
    needed: int
    free: int


@dataclass(frozen=True)
class Plan:
    """Stages in order; `memory` and `free_memory` in bytes, None where the system does not say; places on disks; remarks."""

    stages: tuple[Estimate, ...] = ()
    memory: float = 0.0
    free_memory: int | None = None
    places: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(each.seconds for each in self.stages)


def plan_run(orders: Sequence[CheckedOrder], progress: Progress = quiet) -> Plan:
    """What a run for checked orders will take; nothing is written, and nothing is downloaded.

    Raises:
        InputError, RefusedError: the student is not there or cannot be taken, as in the run itself. MachineError: likewise.
    """
    source = orders[0].order.student
    if not isinstance(source, Student) and (absent := find_absent(source, orders[0].order.parts)) is not None:
        return Plan(notes=(f"not estimated: {absent} is not downloaded yet; a run does that first",))
    clock = [time.perf_counter()]
    load_libraries(progress)
    clock.append(time.perf_counter())
    loaded = load_orders(orders, progress)
    clock.append(time.perf_counter())
    for checked in orders:
        loaded.specialize(checked)
    clock.append(time.perf_counter())
    measured = [Estimate(step, end - begin) for step, (begin, end) in zip(BEFORE, pairwise(clock), strict=True)]
    libraries = find_used_memory()
    planned = _plan_jobs(loaded)
    machine = measure_machine(orders[0].out.absolute(), loaded.compute)
    stages = measured + [each for one in planned for each in estimate_job(one.job, machine)]
    memory = libraries + max(each.memory for each in stages)
    searched = any(map(is_searched, orders))
    notes = ("the search for a recipe comes before and is not estimated",) if searched else ()
    return Plan(tuple(stages), memory, find_free_memory(), tuple(_list_places(orders, planned)), notes)


def expect_stages(loaded: Loaded, machine: Machine = TYPICAL) -> list[Estimate]:
    """What is left of a run once its student is specialized; the machine is measured only where that is nothing beside it."""
    planned = _plan_jobs(loaded)
    stages = [each for one in planned for each in estimate_job(one.job, machine)]
    if sum(each.seconds for each in stages) > WORTH_MEASURING_S and machine is TYPICAL:
        machine = measure_machine(loaded.orders[0].out.absolute(), loaded.compute)
        stages = [each for one in planned for each in estimate_job(one.job, machine)]
    return stages


def _plan_jobs(loaded: Loaded) -> list[Planned]:
    shared = Shared(is_several=len(loaded.orders) > 1)
    return [plan_job(checked, loaded.student, loaded.specialize(checked), shared) for checked in loaded.orders]


def _list_places(orders: Sequence[CheckedOrder], planned: Sequence[Planned]) -> Iterator[Place]:
    for checked, one in zip(orders, planned, strict=True):
        yield _find_place("bundle, in its work folder first", checked.out.absolute(), one.bundle)
    yield _find_place("cache", cache_folder(), sum(one.cache for one in planned))


def _find_place(what: str, folder: Path, needed: int) -> Place:
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return Place(what, folder, needed, shutil.disk_usage(there).free)


def describe_plan(plan: Plan) -> Iterator[str]:
    """The plan as lines: a table of stages, then memory and disk; remarks alone where there is no estimate."""
    yield from _tabulate_stages(plan) if plan.stages else ()
    for place in plan.places:
        yield f"disk: {show_bytes(place.needed)}, {place.what}, {place.folder}; {show_bytes(place.free)} free"
    yield from (f"the disk is too small: {line}" for line in _list_short(plan))
    yield from plan.notes


def _tabulate_stages(plan: Plan) -> Iterator[str]:
    names = [str(each.step) for each in plan.stages]
    width = max(map(len, [*names, "stage"]))
    yield f"{'stage':<{width}}  expected"
    for name, each in zip(names, plan.stages, strict=True):
        yield f"{name:<{width}}  {each.kept or _show_seconds(each.seconds)}"
    yield f"{'total':<{width}}  {_show_seconds(plan.seconds)}"
    peak = max(plan.stages, key=lambda each: each.memory)
    free = "" if plan.free_memory is None else f", {show_bytes(plan.free_memory)} free"
    yield f"memory: {show_bytes(plan.memory)} at most, {peak.step}{free}"
    if plan.free_memory is not None and plan.memory > plan.free_memory:
        yield "memory is too small: end other programs, or take a machine with more"


def _list_short(plan: Plan) -> Iterator[str]:
    """Disks that do not have what all places on them need together."""
    disks: dict[int, list[Place]] = {}
    for place in plan.places:
        there = next(parent for parent in (place.folder, *place.folder.parents) if parent.is_dir())
        disks.setdefault(there.stat().st_dev, []).append(place)
    for places in disks.values():
        needed = sum(place.needed for place in places)
        if needed > places[0].free:
            yield f"{show_bytes(needed)} are needed at {places[0].folder.parent}, {show_bytes(places[0].free)} are free"


def _show_seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))


def tabulate_plan(plan: Plan) -> Mapping[str, Any]:
    """The plan as JSON values; bytes and seconds."""
    return {
        "stages": [
            {
                "target": each.step.target,
                "stage": each.step.stage,
                "detail": each.step.detail,
                "seconds": round(each.seconds, 3),
                "memory": round(each.memory),
                "kept": each.kept,
            }
            for each in plan.stages
        ],
        "seconds": round(plan.seconds, 3),
        "memory": round(plan.memory),
        "free_memory": plan.free_memory,
        "disk": [
            {"what": each.what, "folder": str(each.folder), "needed": each.needed, "free": each.free} for each in plan.places
        ],
        "too_small": list(_list_short(plan)),
        "notes": list(plan.notes),
    }
