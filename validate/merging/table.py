"""Results of devices as tables of texts: one row a device, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sprint_export.nouns.report import Measurement
from sprint_export.validate.latency.table import describe_conditions
from sprint_export.validate.merging.merge import Merged
from sprint_export.validate.merging.result import DeviceResult
from sprint_export.validate.report import format_number

WHOLE = "whole picture"
QUALITY = (  # metric, component, title
    ("reference_psnr_db", "", "PSNR, dB"),
    ("reference_psnr_worst_db", "", "worst, dB"),
    ("reference_largest_difference", "", "apart, of 255"),
)
SPEED = (
    ("latency_p50_ms", WHOLE, "p50, ms"),
    ("latency_p90_ms", WHOLE, "p90, ms"),
    ("latency_p99_ms", WHOLE, "p99, ms"),
    ("cold_start_ms", "", "cold start, ms"),
    ("peak_memory_mb", "", "memory, MB"),
    ("device_memory_mb", "", "on the device, MB"),
)


@dataclass(frozen=True)
class Table:
    """Texts under titles; the first of each row is the device's label, `values` says from which column on they are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    values: int = 1


def list_tables(merged: Merged) -> list[Table]:
    """Distance from the reference, latency and memory, networks, pictures; a table that would be empty is left out."""
    tables = [_tabulate_quality(merged), _tabulate_speed(merged), _tabulate_networks(merged), tabulate_pictures(merged)]
    return [table for table in tables if table.rows and len(table.columns) > 1]


def find_value(result: DeviceResult, metric: str, component: str = "") -> float | None:
    """The value of a device's row, or None; a row of the whole bundle may call it "whole picture"."""
    components = {component, WHOLE} if not component else {component}
    found = (row.value for row in result.report.rows if row.metric == metric and row.component in components)
    return next(found, None)


def _tabulate_quality(merged: Merged) -> Table:
    """Every device, with its verdict."""
    rows = tuple(
        (result.label, describe_verdict(result), describe_beginning(result), *_list_cells(result, QUALITY))
        for result in merged.results
    )
    return Table("devices", ("device", "gates", "differs from", *(title for *_, title in QUALITY)), rows, 3)


def _tabulate_speed(merged: Merged) -> Table:
    """Devices that were timed, with the figures that at least one of them has."""
    shown = [each for each in SPEED if any(find_value(result, each[0], each[1]) is not None for result in merged.results)]
    rows = [(result.label, *_list_cells(result, shown)) for result in merged.results]
    return Table("a whole picture", ("device", *(title for *_, title in shown)), tuple(row for row in rows if any(row[1:])))


def _list_cells(result: DeviceResult, figures: Sequence[tuple[str, str, str]]) -> list[str]:
    values = [find_value(result, metric, component) for metric, component, _ in figures]
    return ["" if value is None else format_number(value) for value in values]


def describe_verdict(result: DeviceResult) -> str:
    """The verdict with the gates behind one that is not met; nothing where there are none."""
    judged = [row for row in result.report.rows if row.verdict is not None]
    if not judged:
        return ""
    failed = [_name_gate(row) for row in judged if row.verdict != "met"]
    return f"{result.report.verdict}: {', '.join(failed)}" if failed else "met"


def _name_gate(row: Measurement) -> str:
    where = f" of {row.component}" if row.component else ""
    return f"{row.limit}{where}, found {format_number(row.value)}"


def describe_beginning(result: DeviceResult) -> str:
    """The first thing on the way from prompt to picture that is not the reference's to the bit, of all drawings."""
    if not result.checks:
        return ""
    begins = dict.fromkeys(check.begins for check in result.checks if check.begins)
    return ", ".join(begins) or "nothing: equal to the bit"


def _tabulate_networks(merged: Merged) -> Table:
    """p50 and p90 of each network, in the chain's order."""
    roles = [record.role for record in merged.bundle.components]
    timed = [role for role in roles if any(find_value(r, "latency_p50_ms", role) is not None for r in merged.results)]
    rows = []
    for result in merged.results:
        pairs = [[find_value(result, f"latency_p{percent}_ms", role) for percent in (50, 90)] for role in timed]
        if any(value is not None for pair in pairs for value in pair):
            texts = (["–" if value is None else format_number(value) for value in pair] for pair in pairs)
            rows.append((result.label, *map(" / ".join, texts)))
    return Table("networks, p50 / p90 in ms", ("device", *timed), tuple(rows))


def tabulate_pictures(merged: Merged) -> Table:
    """Of each drawing of the reference: PSNR and the largest difference, one column a device."""
    drawn = [result for result in merged.results if result.checks]
    places = max((len(result.checks) for result in drawn), default=0)
    rows = []
    for place in range(places):
        checks = [result.checks[place] if place < len(result.checks) else None for result in drawn]
        known = next(check for check in checks if check is not None)
        cells = ["" if check is None else f"{check.psnr_db:.1f} dB, {check.largest} of 255" for check in checks]
        rows.append((f"{known.prompt[:200]} (seed {known.seed}, {known.steps} step{'s' * (known.steps != 1)})", *cells))
    return Table("pictures of reference/", ("prompt", *(result.label for result in drawn)), tuple(rows))


def list_facts(result: DeviceResult) -> Iterator[tuple[str, str]]:
    """What a device says of itself: names and texts, without those that it does not know."""
    versions = ", ".join(f"{name} {version}" for name, version in sorted(result.versions.items()))
    facts = {
        "runtime": result.report.runtime,
        "provider": result.provider,
        "driver": result.driver,
        "machine": result.report.machine,
        "versions": versions,
        "timed": "; ".join(describe_conditions(result.bench)) if result.bench is not None else "",
    }
    return ((name, text) for name, text in facts.items() if text)


def name_failures(merged: Merged) -> Sequence[str]:
    """A line for each device whose gates are not all met."""
    return [f"{result.label}: {describe_verdict(result)}" for result in merged.results if result.report.verdict != "met"]
