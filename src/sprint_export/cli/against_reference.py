"""`validate` without PyTorch: a bundle beside what `reference/` holds, the result in a file for `report --merge`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sprint_export.cli.bars import progress_bars
from sprint_export.cli.drawing_needs import check_drawing
from sprint_export.cli.screen import complain, note, show, stderr, stdout, verbosity
from sprint_export.errors import InputError
from sprint_export.libraries import is_installed
from sprint_export.nouns.option import Option

if TYPE_CHECKING:
    from sprint_export.validate.ci.files import CiFiles
    from sprint_export.validate.merging.result import DeviceResult

PYTORCH = "torch"
FLAG = Option(
    "reference",
    "Compare with the pictures in reference/, without PyTorch; the default where PyTorch is not installed.",
    bool,
    False,
)
OWN = (
    Option("out", "With --reference: write the result here, for: report --merge.", Path, None, None, (), "FILE"),
    Option("runs", "With --reference: time so many drawings too.", int),
    Option("label", "With --reference: the device's name in a joined report; default: its processor's."),
)
OPTIONS = (FLAG, *OWN)


def is_against_reference(own: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether a validation is against the reference alone: asked for, or all that this machine can do.

    Args:
        own: values of OPTIONS by name.
        others: values of options that take PyTorch, None or empty where they were left out.

    Raises:
        InputError: options of both were given.
    """
    given, mine = [name for name, value in others.items() if value], [each.name for each in OWN if own[each.name] is not None]
    chosen: bool = own["reference"] or (not is_installed(PYTORCH) and not given)
    if chosen and given:
        raise InputError(f"--{given[0].replace('_', '-')} takes PyTorch; expected it without --reference")
    if mine and not chosen:
        raise InputError(f"--{mine[0]} is of a validation against reference/; expected --reference beside it")
    return chosen


def validate_device(bundle: Path, own: Mapping[str, Any], as_json: bool, files: CiFiles, **asked: Any) -> None:
    """Compare, print, and write the result; leaves with status 1 where a gate was not met.

    Args:
        bundle: its folder.
        own: values of OPTIONS by name, and allow_undecided.
        as_json: print JSON.
        files: for a CI service.
        asked: gates, runtime, provider.
    """
    check_drawing("PIL")
    out: Path | None = own["out"]
    if out is not None and out.is_dir():
        raise InputError(f"--out {out} is a folder; expected a file, e.g. {out / 'result.json'}")
    if not own["reference"]:
        note("PyTorch is not installed: the bundle is compared with its reference/ alone")
    from sprint_export.disk_errors import clear_disk_errors
    from sprint_export.files import write_text
    from sprint_export.validate.against_reference import validate_against_reference
    from sprint_export.validate.merging.result import format_result

    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        result = validate_against_reference(bundle, progress, **asked, runs=own["runs"] or 0, label=own["label"] or "")
    if out is not None:
        with clear_disk_errors(out):
            write_text(out, format_result(result))
    files.write([result.report], own["allow_undecided"])
    show_result(result, as_json, own["allow_undecided"])


def show_result(result: DeviceResult, as_json: bool, allow_undecided: bool = False) -> None:
    """As tables or JSON; leaves with status 1 where a gate is not met or, unless that is allowed, not decided."""
    from sprint_export.validate.merging.result import describe_result
    from sprint_export.validate.report import list_complaints, render_report

    if as_json:
        stdout.print_json(json.dumps(describe_result(result), allow_nan=False))
    else:
        for table in render_report(result.report):
            stdout.print(table)
        show_lines("not checked: ", result.report.unchecked)
    for complaint in list_complaints(result.report):
        complain(complaint)
    if result.report.verdict == "not met" or not (result.report.passed or allow_undecided):
        raise typer.Exit(1)


def show_lines(head: str, lines: Sequence[str]) -> None:
    """Lines with the same beginning."""
    for line in lines:
        show(head + line)
