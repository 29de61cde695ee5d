"""The command line: `sprint-export --target T` walks the whole road; what one does with a bundle are verbs (verbs.py)."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from typing import Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.verbs import add_verbs, show_report
from sprint_export.errors import InputError
from sprint_export.nouns.option import Option
from sprint_export.nouns.student import ROLES
from sprint_export.nouns.target import OptionValue
from sprint_export.options import keep_asked, merge_options
from sprint_export.paths import is_file

JSON = Option("as_json", "Print JSON on stdout.", bool, False, o.SCREEN, ("--json",))
VERSION = Option("version", "Print the version.", bool, False, o.SCREEN, ("--version",))

app = typer.Typer(
    name="sprint-export",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
@takes_options(*merge_options(), JSON, VERSION)
def convert_command(
    context: typer.Context,
    target: o.Target = None,
    student: o.Student = "sprint-tiny",
    variant: o.Variant = None,
    out: o.Out = None,
    overwrite: o.Overwrite = False,
    device: o.Device = None,
    steps: o.Steps = "1",
    guidance: o.Guidance = None,
    component: o.Components = None,
    prompt_tokens: o.PromptTokens = None,
    no_prefix_cache: o.NoPrefixCache = False,
    dry_run: o.DryRun = False,
    recipe: o.Recipe = None,
    cost: o.Cost = None,
    max_mb: o.MaxMb = None,
    prompts: o.Prompts = None,
    gate: o.Gates = None,
    count: o.Count = None,
    no_validate: o.NoValidate = False,
    *,
    as_json: bool,
    version: bool,
    **options: OptionValue | None,
) -> None:
    """Take a distilled one-step text-to-image student from its PyTorch checkpoint to devices people own.

    Example: sprint-export --target trt-fp8
    """
    if version:
        from sprint_export import __version__

        show(__version__)
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    if target is None:
        print_help(context)
        raise InputError("--target is missing; e.g. sprint-export --target trt-fp8 (all: sprint-export list targets)")
    asked: dict[str, Any] = {
        "steps": o.read_steps(steps),
        "guidance": guidance,
        "device": device,
        "recipe": recipe,
        "cost": cost,
        "components": component or ROLES,
        "options": keep_asked(options),
        "max_mb": max_mb,
        "prompt_tokens": prompt_tokens,
        "gates": gate or [],
        "count": count,
        "validate": not no_validate,
    }
    given = o.read_prompts(prompts)
    if dry_run:
        from sprint_export.road import check_convert

        for line in check_convert(student, target, out, overwrite, **asked).describe():
            show(line)
        return
    from sprint_export.road import convert

    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        bundle = convert(
            student,
            target,
            out,
            variant=variant,
            prompts=given,
            prefix_cache=not no_prefix_cache,
            overwrite=overwrite,
            progress=progress,
            say=note,
            **asked,
        )
    if no_validate or not is_file(bundle.folder / "report.json"):
        if as_json:
            stdout.print_json(json.dumps({"bundle": str(bundle.folder)}))
        else:
            show(f"bundle: {bundle.folder} (not validated)")
        return
    from sprint_export.validate.report_file import read_report

    show_report(read_report(bundle.folder), as_json)


def print_help(context: typer.Context) -> None:
    """Help on stderr, where a result may be read from stdout."""
    with redirect_stdout(sys.stderr):
        text = context.get_help()
    if text:
        stderr.print(text, markup=False, highlight=False)


add_verbs(app)
