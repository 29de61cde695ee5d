"""A bench as tables for the terminal: one of latencies, with a row for each network, and one of everything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Measurement, Report, Verdict
from sprint_export.validate.latency.results import Bench, Conditions
from sprint_export.validate.latency.rows import OTHER, PERCENTS
from sprint_export.validate.report import format_number

if TYPE_CHECKING:
    from rich.table import Table

MUCH = 10  # % of the processors
PERCENTILES = tuple(f"latency_p{percent}_ms" for percent in PERCENTS)


def render_bench(bench: Bench) -> list[Table]:
    """Two tables, or one."""
    from rich.table import Table

    report = bench.report
    latencies = [row for row in report.rows if row.metric.removeprefix(OTHER) in PERCENTILES]
    others = [row for row in report.rows if row.metric.removeprefix(OTHER) not in PERCENTILES]
    table = Table(title=f"{report.target} on {report.runtime}", title_justify="left", caption=report.machine)
    table.add_column("ms a picture", overflow="fold")
    for percent in PERCENTS:
        table.add_column(f"p{percent}", justify="right")
    table.add_column("p50, 95 %")
    table.add_column("what it is", overflow="fold")
    said = ""
    for role in dict.fromkeys(row.component for row in latencies):
        found = {row.metric.removeprefix(OTHER): row for row in latencies if row.component == role}
        first = found[PERCENTILES[0]]
        note = "" if first.note == said else first.note
        said = first.note
        table.add_row(role, *(_cell(found[name]) for name in PERCENTILES), format_interval(first), note)
    tables = [table]
    if others:
        rest = Table(title="beside", title_justify="left")
        for title in ("metric", "of", "value", "95 %", "what it is"):
            rest.add_column(title, justify="right" if title == "value" else "left", overflow="fold")
        for row in others:
            rest.add_row(row.metric, row.component, f"{_cell(row)} {row.unit}".rstrip(), format_interval(row), row.note)
        tables.append(rest)
    return tables


def format_interval(row: Measurement) -> str:
    """Four figures each, or nothing."""
    return "" if row.interval is None else f"{format_number(row.interval[0])} to {format_number(row.interval[1])}"


def _cell(row: Measurement) -> str:
    text = format_number(row.value)
    if row.verdict in (None, "met"):
        return text if row.verdict is None else f"{text} (met)"
    return f"{text} ({str(row.verdict).upper()}: {(row.limit or '').replace(row.metric, '')})"


def name_gates(report: Report, verdict: Verdict) -> str:
    """The rows of this verdict, with what was found and demanded."""
    texts = []
    for row in report.rows:
        if row.verdict == verdict:
            sure = f" ({format_interval(row)})" if row.interval else ""
            texts.append(f"{row.metric} of {row.component} is {format_number(row.value)}{sure}, demanded {row.limit}")
    return ", ".join(texts)


def describe_conditions(conditions: Conditions) -> Iterator[str]:
    """A line for each thing that a reader of the figures has to know."""
    yield f"device: {conditions.device}; launches: {conditions.launches}"
    asked = "" if conditions.asked_threads is None else f"{conditions.asked_threads} for each network (--threads), "
    threads = "" if conditions.threads is None else f"{conditions.threads} threads on "
    drawn = f"{conditions.warm_up} drawings to warm up, {conditions.runs} counted"
    yield f"{asked}{threads}{conditions.processors} processors; {drawn}"
    if conditions.others_share is not None:
        share = 100 * conditions.others_share
        warning = ": what they do next is in no interval" if share >= MUCH else ""
        yield f"other programs used {share:.0f} % of the processors{warning}"
    if conditions.clock_mhz:
        start, middle, end, least = conditions.clock_mhz
        yield f"clocks: {start:.0f}, {middle:.0f}, {end:.0f} MHz at start, middle, end; least {least:.0f}"
    said = {True: "yes", False: "not noticed", None: "not known"}[conditions.throttled]
    yield f"throttled: {said}{f' ({conditions.throttling})' if conditions.throttling else ''}"
    for other in conditions.others:
        yield f"{other['label']}: {other['runtime']}; {other['batch']} at once; launches: {other['launches']}"
    for minute in conditions.minutes:
        yield f"minute {minute['minute'] + 1:.0f}: p50 {format_number(minute['p50_ms'])} ms of {minute['runs']:.0f}"
