"""The command line: `sprint-export --target T` makes a bundle; what one does with a bundle are verbs (verbs.py)."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

import typer

from sprint_export.bundle_files import REPORT
from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.verbs import add_verbs, show_report
from sprint_export.errors import InputError
from sprint_export.options import merge_options
from sprint_export.paths import is_file

app = typer.Typer(
    name="sprint-export",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
@takes_options(*o.ORDER_OPTIONS, *merge_options(), *o.COMMAND_OPTIONS)
def convert_command(context: typer.Context, **values: Any) -> None:
    """Take a distilled one-step text-to-image student from its PyTorch checkpoint to devices people own.

    Example: sprint-export --target trt-fp8
    """
    if values["version"]:
        from sprint_export import __version__

        show(__version__)
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    if values["target"] is None:
        print_help(context)
        raise InputError("--target is missing; e.g. sprint-export --target trt-fp8 (all: sprint-export list targets)")
    order = o.read_order(values)
    if values["dry_run"]:
        from sprint_export.run_checks import check_order, describe_order

        for line in describe_order(check_order(order)):
            show(line)
        return
    from sprint_export.conversion import convert_order

    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        bundle = convert_order(order, progress, note)
    if not order.validate or not is_file(bundle.folder / REPORT):
        if values["as_json"]:
            stdout.print_json(json.dumps({"bundle": str(bundle.folder)}))
        else:
            show(f"bundle: {bundle.folder} (not validated)")
        return
    from sprint_export.validate.report_file import read_report

    show_report(read_report(bundle.folder), values["as_json"])


def print_help(context: typer.Context) -> None:
    """Help on stderr, where a result may be read from stdout."""
    with redirect_stdout(sys.stderr):
        text = context.get_help()
    if text:
        stderr.print(text, markup=False, highlight=False)


add_verbs(app)
