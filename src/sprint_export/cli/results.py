"""What was made and found of it, shown: a report of each bundle, or that there is none."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from sprint_export.cli.screen import complain, show, stdout
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Report


def show_results(results: Sequence[Report | Bundle], as_json: bool, as_list: bool = False, allow_undecided: bool = False) -> None:
    """Reports, and bundles without one, as tables or as JSON; leaves with status 1 where a gate is not met or not decided.

    Args:
        results: one, or several.
        as_json: print JSON.
        as_list: of several targets: JSON is a list, and a gate that is not met is said with the target's name.
        allow_undecided: a gate that is not decided is said, and is no failure.
    """
    from sprint_export.validate.report import list_complaints
    from sprint_export.validate.report_file import describe_report

    if as_json:
        values = [{"bundle": str(each.folder)} if isinstance(each, Bundle) else describe_report(each) for each in results]
        stdout.print_json(json.dumps(values if as_list else values[0], allow_nan=False))
    else:
        for each in results:
            _show_result(each)
    reports = [each for each in results if isinstance(each, Report)]
    for report in reports:
        for complaint in list_complaints(report):
            complain(f"{report.target + ': ' if as_list else ''}{complaint}. The bundle is kept.")
    if any(report.verdict == "not met" or not (report.passed or allow_undecided) for report in reports):
        raise typer.Exit(1)


def _show_result(result: Report | Bundle) -> None:
    from sprint_export.validate.report import render_report

    if isinstance(result, Bundle):
        show(f"bundle: {result.folder} (not validated)")
        return
    for table in render_report(result):
        stdout.print(table)
    for sentence in result.unchecked:
        show(f"not checked: {sentence}")
    show(f"bundle: {result.bundle}")
