"""What a report says first: whether the gates are met, and each gate with its limit, value, interval and reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from sprint_export.nouns.report import Measurement, Report, Verdict
from sprint_export.validate.page.limits import draw_interval, read_limits
from sprint_export.validate.page.templates import render

ORDER: tuple[Verdict, ...] = ("not met", "not decided", "met")  # what needs a look comes first
KEY_FIGURES = {
    "psnr_db": "PSNR, mean",
    "psnr_worst_db": "PSNR, worst picture",
    "disk_mb": "on disk",
    "priced_ms": "a picture on the device, priced, not run",
    "latency_p50_ms": "one call of each network, as validated",
}
INSTEAD = {"latency_p50_ms": "priced_ms"}  # of a device that is not here; what stood in for it here says nothing about it
WORDS = {"met": "Met", "not met": "Not met", "not decided": "Not decided"}


@dataclass(frozen=True)
class _Gate:
    """Rows of one metric and one verdict: of one network, or of several that share a limit."""

    rows: tuple[Measurement, ...]
    reasons: tuple[str, ...]

    @property
    def first(self) -> Measurement:
        return self.rows[0]

    @property
    def limits(self) -> str:
        return " and ".join(limit.text for limit in read_limits(self.first)) or self.first.limit or ""

    @property
    def notes(self) -> list[str]:
        """Each once, with the network where networks have different ones."""
        notes = dict.fromkeys(row.note for row in self.rows if row.note)
        if len(notes) < 2:
            return list(notes)
        return [f"{row.component}: {row.note}" for row in self.rows if row.note]

    @property
    def plot(self) -> Markup:
        return draw_interval(self.first) if len(self.rows) == 1 else Markup("")


def render_head(report: Report, title: str, about: str) -> Markup:
    """The page's head: the verdict in words, and what it is about."""
    rows = [row for row in report.rows if row.verdict is not None]
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ORDER}
    return render(
        "head.html",
        figures=list(_list_key_figures(report)),
        verdict=report.verdict,
        word=WORDS[report.verdict],
        counts=counts,
        total=len(rows),
        title=title,
        about=about,
    )


def _list_key_figures(report: Report) -> Iterator[tuple[str, float, str]]:
    """(what it is, value, unit) of what one asks first; of networks the sum."""
    there = {row.metric for row in report.rows}
    for metric, what in KEY_FIGURES.items():
        rows = [row for row in report.rows if row.metric == metric and INSTEAD.get(metric) not in there]
        if rows:
            yield what, sum(row.value for row in rows), rows[0].unit


def render_gates(report: Report, reasons: Mapping[str, str]) -> Markup:
    """All gates, those first that are not met.

    Args:
        report: with its rows.
        reasons: why there is a gate, by its text.
    """
    found: dict[tuple[str, str | None, Verdict | None], list[Measurement]] = {}
    for row in sorted((row for row in report.rows if row.verdict is not None), key=lambda row: ORDER.index(row.verdict or "met")):
        found.setdefault((row.metric, row.limit, row.verdict), []).append(row)
    gates = [_Gate(tuple(rows), _find_reasons(rows[0], reasons)) for rows in found.values()]
    return render("gates.html", gates=gates, words=WORDS)


def _find_reasons(row: Measurement, reasons: Mapping[str, str]) -> tuple[str, ...]:
    texts = (row.limit or "").split(" and ")
    return tuple(dict.fromkeys(reasons.get(text, "asked for") for text in texts))
