"""A report as JSON, in the bundle and on stdout: every number is one; what is none is null, and its note says so. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import REPORT
from sprint_export.errors import BundleError
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.report import Measurement, Report

NO_NUMBER = "not a number"


def describe_report(report: Report) -> dict[str, Any]:
    """The report as JSON values, with its verdict."""
    value: dict[str, Any] = to_json(replace(report, rows=()))
    return value | {"rows": [_describe_row(row) for row in report.rows], "passed": report.passed}


def _describe_row(row: Measurement) -> dict[str, Any]:
    value: dict[str, Any] = to_json(row)
    if math.isfinite(row.value):
        return value
    said = "beyond all numbers" if math.isinf(row.value) else NO_NUMBER
    return value | {"value": None, "note": f"{said}; {row.note}" if row.note else said}


def format_report(report: Report) -> str:
    """The text of report.json; strict JSON."""
    return json.dumps(describe_report(report), indent=1, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """The report that a validation left in a bundle.

    Raises:
        BundleError: it is damaged.
    """
    try:
        value = json.loads((folder / REPORT).read_text("utf-8"))
        rows = [row | {"value": math.nan} if row["value"] is None else row for row in value["rows"]]
        return from_json(Report, {key: item for key, item in value.items() if key != "passed"} | {"rows": rows})
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"{folder / REPORT} is damaged ({error}); validate the bundle again") from error
