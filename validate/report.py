"""A report as tables for the terminal: whole pictures with their gates first, then one column per component."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sprint_export.nouns.report import Measurement, Report

if TYPE_CHECKING:
    from rich.table import Table


def render_report(report: Report) -> list[Table]:
    """One or two tables; a table without rows is left out."""
    whole = [row for row in report.rows if not row.component]
    parts = [row for row in report.rows if row.component]
    tables = [_render_pictures(report, whole)] if whole else []
    return tables + ([_render_components(parts)] if parts else [])


def _render_pictures(report: Report, rows: list[Measurement]) -> Table:
    from rich.table import Table

    took = f" in {report.seconds:.0f} s" if report.seconds else ""
    title = f"{report.target}: {report.prompts} pictures{took} on {report.runtime}"
    table = Table(title=title, title_justify="left", caption=report.machine)
    for title in ("metric", "value", "95 %", "gate", "what it is"):
        table.add_column(title, justify="right" if title == "value" else "left", overflow="fold")
    for row in rows:
        table.add_row(row.metric, format_number(row.value), format_range(row), format_gate(row), row.note)
    return table


def _render_components(rows: list[Measurement]) -> Table:
    from rich.table import Table

    roles = list(dict.fromkeys(row.component for row in rows))
    table = Table(title="components", title_justify="left")
    table.add_column("metric", overflow="fold")
    for role in roles:
        table.add_column(role, justify="right")
    table.add_column("what it is", overflow="fold")
    for metric in dict.fromkeys(row.metric for row in rows):
        found = {row.component: row for row in rows if row.metric == metric}
        values = [_cell(found[role]) if role in found else "" for role in roles]
        table.add_row(metric, *values, next(iter(found.values())).note)
    return table


def format_number(value: float) -> str:
    """Four figures that say something; whole numbers whole."""
    if not math.isfinite(value):
        return "none" if math.isnan(value) else f"{value:g}"
    is_whole = value == int(value) or abs(value) >= 1000  # else 40,956 ms would be 4.096e+04
    return f"{value:.0f}" if is_whole and abs(value) < 1e6 else f"{value:.4g}"


def format_range(row: Measurement) -> str:
    """Where the mean over all prompts lies, or nothing."""
    if row.interval is None:
        return ""
    return " to ".join(f"{end:.0f}" if 1000 <= abs(end) < 1e6 else f"{end:.3g}" for end in row.interval)


def format_gate(row: Measurement) -> str:
    """The verdict and the limit, and how many pictures would decide; nothing where nothing is demanded."""
    if row.verdict is None:
        return ""
    limit = (row.limit or "").replace(row.metric, "")
    needed = "" if row.needed is None else f" ({row.needed} pictures would)"
    return f"{'met' if row.verdict == 'met' else row.verdict.upper()}{needed}: {limit}"


def _cell(row: Measurement) -> str:
    """A component's number, with its gate where that is not met."""
    return f"{format_number(row.value)}, {format_gate(row)}" if row.passed is False else format_number(row.value)


def _name_row(row: Measurement) -> str:
    return f"{row.metric} of {row.component}" if row.component else row.metric


def _sure(row: Measurement) -> str:
    return f" ({format_range(row)} at 95 %)" if row.interval else ""


def list_complaints(report: Report) -> list[str]:
    """A sentence on the gates that are not met, and one on those that are not decided, with what to do."""
    complaints = []
    if any(row.verdict == "not met" for row in report.rows):
        complaints.append(f"gate not met: {name_failures(report)}")
    if open_rows := [row for row in report.rows if row.verdict == "not decided"]:
        complaints.append(f"gate not decided: {', '.join(map(_say_open, open_rows))}")
    return complaints


def _say_open(row: Measurement) -> str:
    found = f"{_name_row(row)} is {format_number(row.value)}{_sure(row)}, demanded {row.limit}"
    if row.needed is None:
        return f"{found}, which its interval holds"
    return f"{found}; {row.needed} pictures like these would decide it: --count {row.needed}, or --allow-undecided"


def name_failures(report: Report) -> str:
    """The gates that are not met, with what was found, and what a searched recipe had promised."""
    failed = [row for row in report.rows if row.verdict == "not met"]
    text = ", ".join(f"{_name_row(row)} is {format_number(row.value)}{_sure(row)}, demanded {row.limit}" for row in failed)
    searched = next((row for row in report.rows if row.metric == "searched_psnr_db"), None)
    if searched is not None and any(row.metric == "psnr_db" for row in failed):
        text += (
            f" (its recipe was searched on other prompts, where it has {format_number(searched.value)}: a search sees none of "
            "these; ask for a higher gate to have more to spare)"
        )
    return text
