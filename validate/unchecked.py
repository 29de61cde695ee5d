"""What a validation does not say: sentences for the model card and the page."""

from __future__ import annotations

from collections.abc import Iterator

from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Report

NOT_FILTERED = (
    "What the student draws: the toolkit compares with the student and adds no filter; its maker's limits and terms hold."
)


def list_unchecked(bundle: Bundle, report: Report | None) -> Iterator[str]:
    """What could not be checked in this run, and what no run checks."""
    if report is None:
        yield "Nothing was measured of this bundle: it was made without validation, its pictures were compared with no others."
    else:
        yield from report.unchecked
        yield from _list_limits(bundle, report)
    yield NOT_FILTERED


def _list_limits(bundle: Bundle, report: Report) -> Iterator[str]:
    yield (
        f"Other machines, runtimes and versions than {report.runtime} on {report.machine}; it is made for the device "
        f"{bundle.device}."
    )
    yield f"Other prompts than the {report.prompts} drawn, and pictures of other sizes than the student's own."
    if len(bundle.plan.counts) > 1:
        yield f"Other step counts than {bundle.plan.steps}, its default."
    ungated = sorted({row.metric for row in report.rows if row.passed is None})
    yield f"Rows without a gate are told, not judged: {', '.join(ungated)}."
