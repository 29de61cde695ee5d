"""A report as JSON, in the bundle and on stdout: every number is one; what is none is null, and its note says so. No torch.

Format 2 has verdicts, a row of each picture and block, and what was not checked. Format 1 (no `format`, `passed` in the rows) is
still read.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import REPORT
from sprint_export.errors import BundleError
from sprint_export.export.safe_files import FileError, open_checked
from sprint_export.json_forms import from_json, to_json
from sprint_export.nouns.report import FORMAT, BlockError, Measurement, PictureRow, Report
from sprint_export.strict_json import parse_json

NO_NUMBER = "not a number"
LONGEST_REPORT = 1 << 26  # bytes; of a hundred thousand pictures some 30 MB
DERIVED = ("format", "verdict", "passed")  # in the JSON, and no fields of a Report


def describe_report(report: Report) -> dict[str, Any]:
    """The report as JSON values, with its verdict."""
    value: dict[str, Any] = to_json(replace(report, rows=(), pictures=(), blocks=()))
    parts = {
        "rows": [_describe_row(row) for row in report.rows],
        "pictures": [_describe_picture(row) for row in report.pictures],
        "blocks": [_describe_block(row) for row in report.blocks],
    }
    return {"format": FORMAT} | value | parts | {"verdict": report.verdict, "passed": report.passed}


def _describe_row(row: Measurement) -> dict[str, Any]:
    value: dict[str, Any] = to_json(row)
    if math.isfinite(row.value):
        return value
    said = "beyond all numbers" if math.isinf(row.value) else NO_NUMBER
    return value | {"value": None, "note": f"{said}; {row.note}" if row.note else said}


def _describe_picture(row: PictureRow) -> dict[str, Any]:
    value: dict[str, Any] = to_json(row)
    return value | {"figures": {name: _number(each) for name, each in row.figures.items()}}


def _describe_block(row: BlockError) -> dict[str, Any]:
    value: dict[str, Any] = to_json(row)
    return value | {name: _number(value[name]) for name in ("psnr_db", "relative_error", "rounded_psnr_db")}


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def format_report(report: Report) -> str:
    """The text of report.json; strict JSON."""
    return json.dumps(describe_report(report), indent=1, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """The report that a validation left in a bundle, which may come from anywhere.

    Raises:
        BundleError: it is damaged, no regular file, longer than any report, or of a format that a later version wrote.
    """
    path = folder / REPORT
    try:
        with open_checked(folder, REPORT) as file:
            data = file.read(LONGEST_REPORT + 1)
        if len(data) > LONGEST_REPORT:
            raise ValueError(f"it has more than {LONGEST_REPORT:,} bytes")
        return build_report(parse_json(data))
    except FileError as error:
        raise BundleError(f"{path} {error}; validate the bundle again") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is damaged ({str(error)[:300]}); validate the bundle again") from error


def build_report(value: Any) -> Report:
    """The report that JSON values of report.json stand for.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are none, or of a format that a later version wrote.
    """
    written = value.get("format", 1) if isinstance(value, dict) else None
    if written not in (1, FORMAT):
        raise ValueError(f"its format is {written!r}, this version reads 1 and {FORMAT}")
    return from_json(Report, _read_first(value) if written == 1 else _read_second(value))


def _read_second(value: dict[str, Any]) -> dict[str, Any]:
    """Its fields as JSON would have them if NaN were a number."""
    rows = [_as_number(row, "value") for row in value["rows"]]
    pictures = [row | {"figures": _as_number(row["figures"], *row["figures"])} for row in value["pictures"]]
    blocks = [_as_number(row, "psnr_db", "relative_error") for row in value["blocks"]]
    fields = {key: item for key, item in value.items() if key not in DERIVED}
    return fields | {"rows": rows, "pictures": pictures, "blocks": blocks}


def _read_first(value: dict[str, Any]) -> dict[str, Any]:
    """Format 1 as format 2: what passed or not is a verdict, and there are no pictures, no blocks, nothing unchecked."""
    said = {True: "met", False: "not met", None: None}
    rows = [
        {key: item for key, item in row.items() if key != "passed"} | {"verdict": said[row["passed"]], "needed": None}
        for row in value["rows"]
    ]
    return _read_second(value | {"rows": rows, "pictures": [], "blocks": [], "unchecked": []})


def _as_number(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return row | {name: math.nan for name in names if row[name] is None}
