"""The verb `report`: what a validation left in a bundle, or what many devices found of it, as one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.screen import complain, show, stdout
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.errors import InputError
from sprint_export.libraries import check_installed

if TYPE_CHECKING:
    from rich.table import Table as Shown

    from sprint_export.validate.merging.merge import Merged
    from sprint_export.validate.merging.table import Table


@takes_options(*o.pick_options("gates"))
def report(
    bundle: o.Source,
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULT", help="With --merge: what validate --reference --out and bench --json gave."),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Join results of devices into one report.")] = False,
    out: Annotated[Path | None, typer.Option(help="With --merge: the folder of the report; default: BUNDLE-devices.")] = None,
    as_json: o.Json = False,
    *,
    gates: list[str] | None,
) -> None:
    """Show a bundle's report, or join what devices found of it: report.json and report.html, one row a device.

    Example: sprint-export report my-bundle --merge phone.json laptop.json
    """
    if not merge:
        _refuse_without_merge(results, out, gates)
        _show_own(find_source(bundle), as_json)
        return
    check_installed(("jinja2", "numpy", "PIL"))
    from sprint_export.validate.merging.files import describe_merged, write_merged
    from sprint_export.validate.merging.merge import merge_results

    own = find_source(bundle)
    merged = merge_results(own, results or [], gates or [])
    folder = Path(f"{own.resolve().name}-devices") if out is None else out
    _, page = write_merged(merged, folder)
    if as_json:
        stdout.print_json(json.dumps(describe_merged(merged), allow_nan=False))
    else:
        _show_merged(merged)
        show(f"report: {page}")
    _leave(merged)


def _refuse_without_merge(results: list[Path] | None, out: Path | None, gates: list[str] | None) -> None:
    given = {"RESULT": results, "--out": out, "--gate": gates}
    for name, value in given.items():
        if value:
            raise InputError(f"{name} is for joining results of devices; expected --merge beside it")


def _show_own(bundle: Path, as_json: bool) -> None:
    """What the last validation found."""
    from sprint_export.bundle_files import REPORT
    from sprint_export.export.bundle import read_manifest
    from sprint_export.paths import is_file
    from sprint_export.validate.report import render_report
    from sprint_export.validate.report_file import describe_report, read_report

    read_manifest(bundle)
    if not is_file(bundle / REPORT):
        raise InputError(f"{bundle} has no {REPORT}; make one with: sprint-export validate {bundle}")
    found = read_report(bundle)
    if as_json:
        stdout.print_json(json.dumps(describe_report(found), allow_nan=False))
        return
    for table in render_report(found):
        stdout.print(table)


def _show_merged(merged: Merged) -> None:
    from sprint_export.validate.merging.table import list_tables

    for table in list_tables(merged):
        stdout.print(_render(table))


def _render(table: Table) -> Shown:
    from rich.table import Table as Shown
    from rich.text import Text

    shown = Shown(title=table.title, title_justify="left")
    for i, column in enumerate(table.columns):
        shown.add_column(Text(column), justify="right" if i >= table.values else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))  # text of somebody's machine: no markup
    return shown


def _leave(merged: Merged) -> None:
    """Status 1 where a gate was not met on a device."""
    from sprint_export.validate.merging.table import name_failures

    failed: list[Any] = list(name_failures(merged))
    for line in failed:
        complain(f"gate not met: {line}")
    if failed:
        raise typer.Exit(1)
