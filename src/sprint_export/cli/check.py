"""The verb `check`: does a bundle draw here what it drew where it was made?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.drawing_needs import check_drawing
from sprint_export.cli.screen import complain, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source

if TYPE_CHECKING:
    from sprint_export.runtimes.checking import Check


@takes_options()
def check(
    bundle: o.Source,
    tolerance: Annotated[int, typer.Option(min=0, max=255, help="How far a pixel may be from the reference's, of 255.")] = 2,
    runtime: o.Runtime = None,
    as_json: o.Json = False,
) -> None:
    """Draw a bundle's reference pictures again, and say how far they are apart and where that begins.

    Example: sprint-export check my-bundle
    """
    check_drawing("PIL")
    from sprint_export.json_forms import to_json
    from sprint_export.runtimes.checking import check_bundle

    folder = find_source(bundle)
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        checks = check_bundle(folder, runtime, tolerance, progress)
    if as_json:
        stdout.print_json(json.dumps([to_json(each) for each in checks]))
    else:
        for each in checks:
            show(describe_check(each))
    if failed := [f"{each.steps} step(s)" for each in checks if not each.passed]:
        complain(f"not the reference's pictures, within {tolerance} of 255: {', '.join(failed)}")
        raise typer.Exit(1)


def describe_check(found: Check) -> str:
    """One line."""
    where = f"{found.steps} step(s), {found.now}: "
    if not found.begins:
        return where + "the reference's picture, bit for bit"
    other = "" if found.before == found.now else f"; the reference was drawn by {found.before}"
    apart = f"at most {found.largest} of 255 from the reference's picture, {found.mean:.3g} on average"
    return f"{where}{apart}, and other values from {found.begins} on{other}"
