"""The command line: `sprint-export --target T` makes a bundle; what one does with a bundle are verbs (verbs.py)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sprint_export.bundle_files import REPORT
from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars, shows_bars
from sprint_export.cli.results import show_results
from sprint_export.cli.screen import note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.time_left import RunTime
from sprint_export.cli.upload import send_bundle
from sprint_export.cli.verbs import add_verbs
from sprint_export.errors import InputError, SprintExportError
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import Order
from sprint_export.nouns.report import Report
from sprint_export.options import merge_options
from sprint_export.paths import is_file
from sprint_export.progress import Step

if TYPE_CHECKING:
    from sprint_export.estimates.stages import Estimate
    from sprint_export.validate.ci.files import CiFiles

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
        if not _is_asked(context):
            print_help(context)
        raise InputError("--target is missing; e.g. sprint-export --target trt-fp8 (all: sprint-export list targets)")
    files = o.read_ci_files(values)
    order = o.read_order(values)
    _check_upload(order, values["upload_repo"], values["private"])
    if values["dry_run"]:
        show_plan(order, values["as_json"])
        return
    _convert(order, files, values)


def _convert(order: Order, files: CiFiles, values: Mapping[str, Any]) -> None:
    """Make the bundles, show what was found of them, upload where that was asked for; leaves with status 1 as `show_results`."""
    from sprint_export.conversion import convert_each
    from sprint_export.validate.report_file import read_report

    results: list[Report | Bundle] = []
    as_list = len(order.targets) > 1
    try:
        run = RunTime()

        def expect(stages: Sequence[Estimate]) -> None:
            run.expected = [(each.step, each.seconds) for each in stages]

        listens = expect if shows_bars(stderr, verbosity.is_quiet) else None
        with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose, run) as progress:
            for bundle in convert_each(order, progress, note, listens):
                is_validated = order.validate and is_file(bundle.folder / REPORT)
                results.append(read_report(bundle.folder) if is_validated else bundle)
    except SprintExportError:
        if results:
            files.write(results, values["allow_undecided"])
            with suppress(typer.Exit):  # its status is not the worst
                show_results(results, values["as_json"], as_list)
        raise
    files.write(results, values["allow_undecided"])
    show_results(results, values["as_json"], as_list, values["allow_undecided"])
    if values["upload_repo"] is not None:
        made = results[0]
        folder = Path(made.bundle) if isinstance(made, Report) else made.folder
        send_bundle(folder, values["upload_repo"], values["private"], values["allow_undecided"])


def _check_upload(order: Order, repo: str | None, private: bool) -> None:
    """Refuse, before any work, an upload that could not be at its end."""
    if repo is None:
        if private:
            raise InputError("--private says how a repository is made; expected --upload-repo OWNER/NAME beside it")
        return
    if len(order.targets) > 1:
        raise InputError(f"--upload-repo {repo} takes one bundle; expected one target, or one by one: sprint-export upload")
    if not order.validate or order.components:
        raise InputError(f"--upload-repo {repo}: expected a validated bundle; or upload it later: sprint-export upload --anyway")
    from sprint_export.runtimes.upload import check_upload

    check_upload(repo)


def show_plan(order: Order, as_json: bool) -> None:
    """Print what a run would make and take, its choices first: they need no library."""
    from sprint_export.run_checks import check_orders, describe_order

    orders = check_orders(order)
    choices = [line for checked in orders for line in describe_order(checked)]
    if not as_json:
        for line in choices:
            show(line)
    with progress_bars(stderr, verbosity.is_quiet or not stderr.is_terminal) as progress:
        progress(Step("loading"), 0, 1)
        from sprint_export.estimates.plan import describe_plan, plan_run, tabulate_plan

        plan = plan_run(orders, progress)
    if as_json:
        stdout.print_json(json.dumps({"choices": choices, **tabulate_plan(plan)}))
        return
    for line in describe_plan(plan):
        show(line)


def _is_asked(context: typer.Context) -> bool:
    """Whether anything was asked for: not the bare command."""
    return any(
        (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE" for name in context.params
    )


def print_help(context: typer.Context) -> None:
    """Help on stderr, where a result may be read from stdout."""
    with redirect_stdout(sys.stderr):
        text = context.get_help()
    if text:
        stderr.print(text, markup=False, highlight=False)


add_verbs(app)
