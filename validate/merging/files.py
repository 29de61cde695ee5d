"""The merged report in a folder: report.json for programs, report.html for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sprint_export.bundle_files import MANIFEST, PAGE, REPORT
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError
from sprint_export.files import write_text
from sprint_export.own_files import check_own_files
from sprint_export.validate.merging.merge import Merged
from sprint_export.validate.merging.page import render_page
from sprint_export.validate.merging.result import describe_result
from sprint_export.validate.report_file import describe_report

KIND = "devices"
FORMAT = 1


def write_merged(merged: Merged, out: Path) -> tuple[Path, Path]:
    """Write both files into a folder, which is made; the bundle's own report stays as it is.

    Raises:
        InputError: the folder is a bundle, holds another program's report, or cannot be written. MachineError: the disk is full.
    """
    if (out / MANIFEST).exists():
        raise InputError(f"--out {out} is a bundle, whose own report would be replaced; choose another folder")
    check_own_files(out, (REPORT, PAGE))
    written = out / REPORT, out / PAGE
    texts = json.dumps(describe_merged(merged), indent=1, allow_nan=False) + "\n", render_page(merged)
    with clear_disk_errors(out):
        for path, text in zip(written, texts, strict=True):
            write_text(path, text)
    return written


def describe_merged(merged: Merged) -> dict[str, Any]:
    """As JSON values: each device's result with the verdict taken here."""
    return {
        "format": FORMAT,
        "kind": KIND,
        "bundle": merged.bundle.folder.resolve().name,
        "identity": merged.bundle.identity,
        "target": f"{merged.bundle.target}-{merged.bundle.precision}",
        "verdict": merged.verdict,
        "passed": merged.verdict == "met",
        "validation": None if merged.validation is None else describe_report(merged.validation),
        "devices": [describe_result(result) for result in merged.results],
    }
