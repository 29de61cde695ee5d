"""What a validation does not say: sentences for the model card and the page."""

from __future__ import annotations

from collections.abc import Iterator

from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Report
from sprint_export.registry import load_target
from sprint_export.runtimes.runtime import Runtime, load_runtime

NOT_FILTERED = (
    "What the student draws: the toolkit compares with the student and adds no filter; its maker's limits and terms hold."
)


def list_unrun(bundle: Bundle, runtime: Runtime) -> Iterator[str]:
    """What was built for a device and did not run, where this runtime opens graphs alone."""
    engines = [artifact for artifact in bundle.artifacts if artifact.kind == "engine"]
    if not engines or runtime.opens_engines:
        return
    others = [load_runtime(name) for name in load_target(bundle.target).runtimes]
    reasons = [reason for other in others if other.opens_engines and (reason := other.can_run()) is not None]
    why = f" ({'; '.join(reasons)})" if reasons else ""
    yield f"Engines were built and not run{why}: the runtime {runtime.title} ran the graphs instead."


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
