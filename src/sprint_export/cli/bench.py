"""The verb `bench`: how long a bundle takes on this machine, and how sure that is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.drawing_needs import check_drawing
from sprint_export.cli.screen import complain, note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.compute import check_compute, choose_compute
from sprint_export.errors import InputError
from sprint_export.libraries import EXPORTING, check_installed
from sprint_export.nouns.option import Option
from sprint_export.progress import Progress

if TYPE_CHECKING:
    from sprint_export.validate.latency.results import Bench

FROM_STUDENT = ("student", "variant", "compute")  # which PyTorch's side alone takes
OPTIONS = (
    o.PROVIDER,
    Option("warm_up", "Drawings before those that are counted; default: at least 2, and more until a second has passed.", int),
    Option("minutes", "Draw for so many minutes in place of --runs, and say how the p50 moves.", float),
    Option("spread", "Seconds over which drawings are spread, with pauses. Default: 30; 0 with --runs or --minutes.", float),
    Option("batch", "Pictures at once; several with commas draw in turn. Default: what the graphs take at once."),
    Option("threads", "Of the CPU, for each network on every side. Default: what each side's library chooses.", int),
    Option("cold_starts", "Fresh processes that are timed to their first picture; default: up to 3, 0 for none.", int),
    Option("protocol", "own, mlperf-client (1 to warm up, 4 counted) or mlperf-single-stream (LoadGen). Default: own."),
    Option(
        "against",
        "What draws in turn with it: pytorch, pytorch-compile, either with :bf16 or :fp16, or another bundle; may be repeated.",
        is_repeated=True,
    ),
    Option("student", "Whose PyTorch --against is; default: the one it was made from, where that is embedded or random:PRESET."),
    *o.pick_options("variant", "compute"),
    Option("gates", "A demand such as 'latency_p50_ms<=20'; may be repeated.", flags=("--gate",), is_repeated=True),
    Option("allow_undecided", "Exit status 0 also where a gate's limit lies within the interval.", bool, False),
    *o.CI_OPTIONS,
)


@takes_options(*OPTIONS)
def bench(
    bundle: o.Source,
    runs: Annotated[
        int | None,
        typer.Option(min=1, max=o.MOST_RUNS, help="Counted drawings; default: what 10 seconds hold, at least 10."),
    ] = None,
    runtime: o.Runtime = None,
    as_json: o.Json = False,
    **asked: Any,
) -> None:
    """Time a bundle on this machine: every network, the whole picture, cold starts, memory; with intervals.

    Example: sprint-export bench my-bundle --against pytorch
    """
    check_drawing()
    from sprint_export.validate.latency import bench_bundle
    from sprint_export.validate.latency.opponents import is_pytorch
    from sprint_export.validate.latency.request import BenchRequest

    files, allow_undecided = o.read_ci_files(asked), asked.pop("allow_undecided")
    asked |= {"batches": read_batches(asked.pop("batch"))}
    given = {name: asked.pop(name) for name in FROM_STUDENT}
    wanted: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    BenchRequest(runs=runs, runtime=runtime, **wanted)  # a mistake in it is said before PyTorch is loaded
    folder = find_source(bundle)
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        if any(map(is_pytorch, wanted.get("against", ()))):
            wanted |= _load_student(given, progress)
        elif given["student"] is not None or given["variant"] is not None:
            raise InputError("--student and --variant are for --against pytorch or pytorch-compile; leave them out")
        found = bench_bundle(folder, progress, runs=runs, runtime=runtime, **wanted)
    files.write([found.report], allow_undecided)
    show_bench(found, as_json, allow_undecided)


def read_batches(text: str | None) -> tuple[int, ...]:
    """Numbers of `4` or `1,2,4`; none of nothing.

    Raises:
        InputError: it is not a list of whole numbers.
    """
    try:
        return () if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--batch {text}: expected a number of pictures, or several with commas, e.g. 1,2,4") from error


def _load_student(given: dict[str, Any], progress: Progress) -> dict[str, Any]:
    """What PyTorch's side takes: where it computes, and the student where one was named."""
    from sprint_export.run_checks import load_libraries
    from sprint_export.students.source import check_source

    check_compute(given["compute"])
    if given["student"] is not None:
        check_source(given["student"])
    check_installed(EXPORTING)
    load_libraries(progress)
    from sprint_export.students import load_student

    found: dict[str, Any] = {"compute": choose_compute(given["compute"], note)}
    return found if given["student"] is None else found | {"student": load_student(given["student"], given["variant"])}


def show_bench(found: Bench, as_json: bool, allow_undecided: bool = False) -> None:
    """As tables or JSON; leaves with status 1 where a gate is not met or, unless that is allowed, not decided."""
    from sprint_export.validate.latency.results import describe_bench
    from sprint_export.validate.latency.table import describe_conditions, name_gates, render_bench

    if as_json:
        stdout.print_json(json.dumps(describe_bench(found), allow_nan=False))
    else:
        for table in render_bench(found):
            stdout.print(table)
        for line in describe_conditions(found.conditions):
            show(line)
        show(f"bundle: {found.report.bundle}")
    failed, undecided = name_gates(found.report, "not met"), name_gates(found.report, "not decided")
    if failed:
        complain(f"gate not met: {failed}")
    if undecided:
        complain(f"gate not decided: {undecided}; draw longer (--runs, --minutes), on a machine that nobody else uses")
    if failed or (undecided and not allow_undecided):
        raise typer.Exit(1)
