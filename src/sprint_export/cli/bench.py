"""The verb `bench`: how long a bundle takes on this machine, and how sure that is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.checks import check_drawing
from sprint_export.cli.screen import complain, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.nouns.option import Option
from sprint_export.options import keep_asked

if TYPE_CHECKING:
    from sprint_export.validate.latency.results import Bench

GATES = Option("gates", "A demand such as 'latency_p50_ms<=20'; may be repeated.", flags=("--gate",), is_repeated=True)
OPTIONS = (
    o.PROVIDER,
    Option("warm_up", "Drawings before those that count; default: at least 2, and more until a second has passed.", int),
    Option("minutes", "Draw for so long in place of --runs, and say how the p50 moves.", float),
    Option("cold_starts", "Fresh processes that are timed to their first picture; default: up to 3, 0 for none.", int),
    GATES,
)


@takes_options(*OPTIONS)
def bench(
    bundle: o.Folder,
    runs: Annotated[
        int | None,
        typer.Option(min=1, max=o.MOST_RUNS, help="Counted drawings; default: what 10 seconds hold, at least 10."),
    ] = None,
    runtime: o.Runtime = None,
    as_json: o.Json = False,
    **asked: Any,
) -> None:
    """Time a bundle on this machine: every network, the whole picture, cold starts, memory; with intervals."""
    check_drawing()
    from sprint_export.validate.latency import bench_bundle

    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        found = bench_bundle(bundle, progress, runs=runs, runtime=runtime, **keep_asked(asked))
    show_bench(found, as_json)


def show_bench(found: Bench, as_json: bool) -> None:
    """As tables or JSON; leaves with status 1 where a gate was not met."""
    from sprint_export.validate.latency.results import describe_bench
    from sprint_export.validate.latency.table import describe_conditions, render_bench
    from sprint_export.validate.report import name_failures

    if as_json:
        stdout.print_json(json.dumps(describe_bench(found), allow_nan=False))
    else:
        for table in render_bench(found):
            stdout.print(table)
        for line in describe_conditions(found.conditions):
            show(line)
        show(f"bundle: {found.report.bundle}")
    if not found.report.passed:
        complain(f"gate not met: {name_failures(found.report)}")
        raise typer.Exit(1)
