"""What the bundle costs: bytes and milliseconds by network, and all that only its target measures."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from sprint_export.nouns.report import Measurement, Metric
from sprint_export.nouns.target import Target
from sprint_export.validate.page.templates import render

COST_UNITS = ("MB", "ms")
SUMMED = ("disk_mb", "planned_mb", "latency_p50_ms")  # shown as parts of a whole, beside what of the target's own adds up
TONES = 6


def render_costs(rows: Sequence[Measurement], target: Target) -> Markup:
    """Parts of each whole, then a table of all rows of networks.

    Args:
        rows: of a report.
        target: whose own metrics stand in a table of their own.
    """
    own = target.metrics
    by_network = [row for row in rows if row.component]
    roles = list(dict.fromkeys(row.component for row in by_network))
    tones = {role: i % TONES + 1 for i, role in enumerate(roles)}
    costs = [row for row in by_network if row.unit in COST_UNITS and not _is_own(row, own)]
    targets = [row for row in by_network if _is_own(row, own)]
    others = [row for row in by_network if row not in costs and row not in targets]
    wholes = [name for name in dict.fromkeys(row.metric for row in by_network if row.unit in COST_UNITS) if name in SUMMED]
    wholes += list(dict.fromkeys(row.metric for row in targets if row.unit in COST_UNITS and _adds_up(row, own)))
    tables = (("Size and time", costs), (f"What only {target.name} measures", targets), ("More of each network", others))
    return render(
        "costs.html",
        wholes=[_sum_up([row for row in by_network if row.metric == name], tones) for name in wholes],
        tables=[(title, _tabulate(found, roles)) for title, found in tables if found],
        roles=roles,
    )


def _is_own(row: Measurement, own: Sequence[Metric]) -> bool:
    return any(metric.fits(row.metric) for metric in own)


def _adds_up(row: Measurement, own: Sequence[Metric]) -> bool:
    return any(metric.fits(row.metric) and metric.adds_up for metric in own)


def _sum_up(rows: Sequence[Measurement], tones: dict[str, int]) -> dict[str, object]:
    """A metric's total and each network's part of it, as cells of a bar 100 wide."""
    total = sum(row.value for row in rows)
    x, parts = 0.0, []
    for row in rows:
        width = 100 * row.value / total if total > 0 else 0.0
        parts.append((row.component, row.value, tones[row.component], x, width))
        x += width
    return {"metric": rows[0].metric, "unit": rows[0].unit, "note": rows[0].note, "total": total, "parts": parts}


def _tabulate(rows: Sequence[Measurement], roles: Sequence[str]) -> list[tuple[str, str, list[Measurement | None], str]]:
    """(metric, unit, a row of each network or None, note) of each metric."""
    table = []
    for metric in dict.fromkeys(row.metric for row in rows):
        found = {row.component: row for row in rows if row.metric == metric}
        first = next(iter(found.values()))
        notes = dict.fromkeys(row.note for row in found.values() if row.note)
        table.append((metric, first.unit, [found.get(role) for role in roles], next(iter(notes), "")))
    return table
