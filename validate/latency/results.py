"""What a bench found: a report, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sprint_export.json_forms import to_json
from sprint_export.nouns.report import Report
from sprint_export.validate.report_file import describe_report

CLOCKS = 4  # the start, the middle, the end, the least
OF_MINUTE: Mapping[str, Any] = {"minute": int | float, "runs": int | float, "p50_ms": int | float}
OF_OTHER: Mapping[str, Any] = {"label": str, "runtime": str, "launches": str, "batch": int}


@dataclass(frozen=True)
class Conditions:
    """How a bundle was timed, and what the machine did meanwhile.

    Args:
        protocol: own, mlperf-client or mlperf-single-stream.
        runs: counted drawings; a drawing is of `batch` pictures.
        warm_up: drawings before, which are not counted.
        batch: pictures at once.
        disturbed: of the runs, those whose threads waited for processors; None where the system does not say.
        processors: that the process may use.
        threads: that it had while it drew; None where the system does not say.
        replayed: launches were replayed from a recorded graph; false where there are none.
        launches: the same in words.
        device: what computed.
        clock_mhz: at the start, in the middle, at the end, and the least; empty where the system does not say.
        throttled: None where nothing says so.
        throttling: what does.
        cold_starts: seconds of each fresh process: start to first picture.
        minutes: p50 by minute, of a sustained run.
        others: of each other side that drew in turn: its label, what ran it, its launches, how many pictures at once.
        asked_threads: of the CPU that each network might take, as was asked for; None: as many as the library chose.
        others_share: of all processors' time, what other programs used meanwhile; None where the system does not say.
    """

    protocol: str
    runs: int
    warm_up: int
    batch: int
    disturbed: int | None
    processors: int
    threads: int | None
    replayed: bool
    launches: str
    device: str
    clock_mhz: tuple[float, ...] = ()
    throttled: bool | None = None
    throttling: str = ""
    cold_starts: tuple[float, ...] = ()
    minutes: tuple[Mapping[str, float], ...] = ()
    others: tuple[Mapping[str, Any], ...] = ()
    others_share: float | None = None
    asked_threads: int | None = None

    def __post_init__(self) -> None:
        """Conditions may come from a file of somebody else's.

        Raises:
            ValueError: a list has entries of another form.
        """
        if len(self.clock_mhz) not in (0, CLOCKS):
            raise ValueError(f"clock_mhz has {len(self.clock_mhz)} entries, expected {CLOCKS} or none")
        for name, fields, entries in (("minutes", OF_MINUTE, self.minutes), ("others", OF_OTHER, self.others)):
            for entry in entries:
                if missing := [field for field in fields if not isinstance(entry.get(field), fields[field])]:
                    raise ValueError(f"an entry of {name} has no {missing[0]}")


@dataclass(frozen=True)
class Bench:
    """A report of latency, its conditions, and the identity of the bundle that was timed (Bundle.identity)."""

    report: Report
    conditions: Conditions
    identity: str


def describe_bench(bench: Bench) -> dict[str, Any]:
    """As JSON values: a report's, with `identity` and `bench` beside its rows."""
    return describe_report(bench.report) | {"identity": bench.identity, "bench": to_json(bench.conditions)}
