"""The command line. `sprint-export --target T` walks the whole road; the verbs are its stages and what one does with a bundle.

Exit status: 0 done and gates met; 1 a gate not met (the bundle is kept); 2 wrong or refused input; 3 the machine lacks
something. Progress and notes go to stderr, results to stdout, `--json` for programs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from sprint_export.bars import progress_bars
from sprint_export.disk_errors import clear_disk_errors
from sprint_export.errors import InputError, SprintExportError
from sprint_export.files import write_whole
from sprint_export.schema import Bundle, Report

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, invoke_without_command=True)
PIPE_WIDTH = 120  # columns of a table that goes to a file or a pipe
stdout = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
stderr = Console(file=sys.stderr)  # this very stream: bars go on while a library's remarks are kept off the screen
STOPPED = 130  # the shell's status for a program that Ctrl-C ended

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Folder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder that sprint-export made.")]
Runtime = Annotated[
    str | None, typer.Option(help="trt, onnx, coreml, coreml-checker or coreai; default: the first that can run here.")
]


def main() -> None:
    """Entry point: run the app; a user's mistake is one line on stderr and an exit status, never a traceback."""
    try:
        status = app(standalone_mode=False)  # what a typer.Exit or Ctrl-C left with comes back as a value, else None
    except SprintExportError as error:
        stderr.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        status = STOPPED
    except Exception as error:  # typer carries its own copy of click, whose errors have no public name
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's own usage errors
            text = f"error: {error.format_message().rstrip('.')}. See: sprint-export --help"
            stderr.print(text, markup=False, highlight=False, soft_wrap=True)
            sys.exit(error.exit_code)
        raise
    if status == STOPPED:
        stderr.print("stopped; run the same command again to go on where it stopped")
    sys.exit(status)


def read_prompts(path: Path | None) -> list[str] | None:
    """One prompt a line; empty lines and lines that start with # are left out.

    Raises:
        InputError: the file cannot be read as text, or has no prompt in it.
    """
    if path is None:
        return None
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompts {path}: cannot be read as UTF-8 text ({error})") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise InputError(f"--prompts {path} has no prompts; expected one a line")
    return prompts


def read_steps(text: str) -> tuple[int, ...]:
    """Step counts of `2` or `1,2,4`.

    Raises:
        InputError: it is not a list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--steps {text}: expected a number from 1 to 4, or several with commas, e.g. 1,2,4") from error


@app.callback()
def convert_command(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help="Where to, e.g. trt-fp8, onnx-int8, coreml-int8; see: list targets.")] = None,
    student: Annotated[
        str, typer.Option(help="An embedded name, a diffusers folder, a hub id, or random:PRESET.")
    ] = "sprint-tiny",
    out: Annotated[Path | None, typer.Option(help="The bundle's folder; default STUDENT-TARGET here.")] = None,
    steps: Annotated[str, typer.Option(help="Sampling steps to specialize to, 1 to 4; 1,2,4 share one set of weights.")] = "1",
    guidance: Annotated[float | None, typer.Option(help="Guidance scale to fix; default 4.5.")] = None,
    device: Annotated[str | None, typer.Option(help="What to build for; see: list devices.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Which layers are quantized: fast, balanced, faithful, auto (searched), or a TOML file.")
    ] = None,
    cost: Annotated[
        str | None, typer.Option(help="What --recipe auto makes small: time (priced for the device) or bytes.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file, one prompt a line, to calibrate and validate with.")] = None,
    component: Annotated[list[str] | None, typer.Option(help="Export only this network; may be repeated.")] = None,
    builder: Annotated[
        str, typer.Option(help="tensorrt-rtx (needs no GPU) or tensorrt (on the GPU it is for).")
    ] = "tensorrt-rtx",
    deployment_target: Annotated[
        str | None, typer.Option(help="Apple targets: the oldest system it must run on, e.g. iOS17; default iOS18.")
    ] = None,
    compute_unit: Annotated[
        str | None,
        typer.Option(help="Apple: neural-engine, gpu, cpu or all; OpenVINO: cpu, gpu or npu; default: what suits the device."),
    ] = None,
    max_mb: Annotated[
        float | None, typer.Option(help="coreml-w4 and coreml-w6: choose every layer's bits by picture error to fit this size.")
    ] = None,
    part_mb: Annotated[
        int | None, typer.Option(help="Apple targets: largest weight file in MB; a larger network becomes several files.")
    ] = None,
    dynamic: Annotated[
        bool,
        typer.Option("--dynamic", help="onnx, openvino: pictures of any height and width; default: the student's own size only."),
    ] = False,
    prompt_tokens: Annotated[
        int | None, typer.Option(help="Rows of text the networks are fixed to, BOS and the prompt's; default 300.")
    ] = None,
    no_prefix_cache: Annotated[
        bool, typer.Option("--no-prefix-cache", help="Compute the instruction before a prompt too, instead of holding it.")
    ] = False,
    gate: Annotated[list[str] | None, typer.Option(help="A demand, e.g. 'psnr_db>=30'; may be repeated.")] = None,
    count: Annotated[int | None, typer.Option(help="How many prompts to validate with.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle made from other inputs.")] = False,
    no_validate: Annotated[bool, typer.Option("--no-validate", help="Leave the validation out.")] = False,
    as_json: Json = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Take a distilled one-step text-to-image student from its PyTorch checkpoint to devices people own.

    Example: sprint-export --target trt-fp8
    """
    if version:
        from sprint_export import __version__

        stdout.print(__version__, highlight=False)
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    if target is None:
        stderr.print(context.get_help(), markup=False, highlight=False)
        raise InputError("--target is missing; e.g. sprint-export --target trt-fp8 (all: sprint-export list targets)")
    from sprint_export.road import convert
    from sprint_export.schema import ROLES, Options

    with progress_bars(stderr) as progress:
        bundle = convert(
            student,
            target,
            out,
            steps=read_steps(steps),
            guidance=guidance,
            device=device,
            prompts=read_prompts(prompts),
            recipe=recipe,
            cost=cost,
            components=component or ROLES,
            builder=builder,
            options=Options(deployment_target, compute_unit, part_mb, dynamic),
            max_mb=max_mb,
            prefix_cache=not no_prefix_cache,
            prompt_tokens=prompt_tokens,
            gates=gate or [],
            count=count,
            overwrite=overwrite,
            validate=not no_validate,
            progress=progress,
            say=lambda text: stderr.print(text, markup=False, highlight=False, soft_wrap=True),
        )
    _finish(bundle.folder, not no_validate, as_json)


def _finish(folder: Path, validated: bool, as_json: bool) -> None:
    """Print the report that this run left in the bundle, if it did, and leave with its status."""
    from sprint_export.json_forms import from_json

    path = folder / "report.json"
    if not validated or not path.is_file():
        if as_json:
            stdout.print_json(json.dumps({"bundle": str(folder)}))
        else:
            stdout.print(f"bundle: {folder} (not validated)", highlight=False, soft_wrap=True)
        return
    value = json.loads(path.read_text("utf-8"))
    value.pop("passed")
    show_report(from_json(Report, value), as_json)


def show_report(report: Report, as_json: bool) -> None:
    """The report as tables or as JSON; leaves with status 1 where a gate was not met."""
    from sprint_export.json_forms import to_json
    from sprint_export.validate.report import name_failures, render_report

    if as_json:
        stdout.print_json(json.dumps(to_json(report) | {"passed": report.passed}))
    else:
        for table in render_report(report):
            stdout.print(table)
        stdout.print(f"bundle: {report.bundle}", highlight=False, soft_wrap=True)
    if not report.passed:
        stderr.print(f"gate not met: {name_failures(report)}. The bundle is kept.", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="students, targets, precisions, devices or recipes")], as_json: Json = False
) -> None:
    """List students, targets, precisions, devices or recipes."""
    from sprint_export.inspection import list_names

    found = list_names(what)
    if as_json:
        stdout.print_json(json.dumps(found))
        return
    width = max(map(len, found))
    for name, meaning in found.items():
        stdout.print(f"{name:<{width}}  {meaning}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def inspect(
    bundle: Folder,
    layers: Annotated[bool, typer.Option("--layers", help="Show every quantized layer.")] = False,
    recipe: Annotated[bool, typer.Option("--recipe", help="Show why every layer is quantized or not.")] = False,
    toml: Annotated[bool, typer.Option("--toml", help="With --recipe: print it as a file to edit and give to --recipe.")] = False,
    as_json: Json = False,
) -> None:
    """Say what a bundle holds; its files are checked against their sha256."""
    from sprint_export.export.bundle import read_bundle
    from sprint_export.inspection import describe_bundle, describe_recipe, find_recipe, tabulate_recipe
    from sprint_export.json_forms import to_json
    from sprint_export.recipe_toml import write_recipe

    if toml and (as_json or not recipe):
        raise InputError("--toml prints a recipe: expected --recipe --toml, without --json")
    found = read_bundle(bundle)
    if toml:
        stdout.out(write_recipe(find_recipe(found)), end="", highlight=False)
    elif as_json:
        stdout.print_json(json.dumps(describe_recipe(found) if recipe else to_json(found)))
    elif recipe:
        for table in tabulate_recipe(found):
            stdout.print(table)
    else:
        for line in describe_bundle(found, layers):
            stdout.print(line, markup=False, highlight=False)


@app.command()
def run(
    bundle: Folder,
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG; a number is added for more than one prompt.")] = Path(
        "out.png"
    ),
    seed: Annotated[int, typer.Option(help="Picture i uses seed + i.")] = 0,
    steps: Annotated[int | None, typer.Option(help="One of the step counts it was made for; default: its first.")] = None,
    height: Annotated[
        int | None, typer.Option(help="Pixels; for bundles made with --dynamic. Default: the student's own.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Likewise.")] = None,
    runtime: Runtime = None,
) -> None:
    """Draw pictures."""
    from PIL import Image

    from sprint_export.export.bundle import read_bundle
    from sprint_export.runtimes import open_bundle
    from sprint_export.sizes import find_sizes

    if not output.absolute().parent.is_dir():
        raise InputError(f"-o {output}: the folder {output.absolute().parent} does not exist")
    if height is not None or width is not None:
        find_sizes(read_bundle(bundle, verify=False)).choose(height, width)  # a mistake is said before networks are loaded
    pipeline = open_bundle(bundle, runtime, steps=steps)
    stderr.print(f"runs on {pipeline.description}", highlight=False)
    pictures = pipeline(prompts, seed=seed, height=height, width=width)
    for i, picture in enumerate(pictures):
        path = output if len(pictures) == 1 else output.with_stem(f"{output.stem}-{i}")
        _save_picture(Image.fromarray(picture), path)
        stdout.print(str(path), markup=False, highlight=False, soft_wrap=True)


def _save_picture(picture: Any, path: Path) -> None:
    with clear_disk_errors(path, "choose another -o"):
        try:
            write_whole(path, picture.save)
        except ValueError as error:
            raise InputError(f"-o {path}: cannot be written as a picture ({error}); use a name that ends in .png") from error


@app.command()
def validate(
    bundle: Folder,
    student: Annotated[str | None, typer.Option(help="Default: the one it was made from.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file, one prompt a line.")] = None,
    gate: Annotated[list[str] | None, typer.Option(help="A demand, e.g. 'psnr_db>=30'; may be repeated.")] = None,
    count: Annotated[int | None, typer.Option(help="How many prompts.")] = None,
    runtime: Runtime = None,
    as_json: Json = False,
) -> None:
    """Run a bundle beside PyTorch on the same prompts and noise; write report.json and contact_sheet.png into it."""
    from sprint_export.students import load_student
    from sprint_export.validate import validate_bundle

    with progress_bars(stderr) as progress:
        report = validate_bundle(
            bundle,
            None if student is None else load_student(student),
            read_prompts(prompts),
            count,
            gate or [],
            runtime,
            progress,
        )
    show_report(report, as_json)


@app.command()
def bench(
    bundle: Folder,
    runs: Annotated[int, typer.Option(help="Counted pictures, after one to warm up.")] = 10,
    runtime: Runtime = None,
    as_json: Json = False,
) -> None:
    """Time a bundle on this machine: p50 and p90 of every component and of the whole picture."""
    from sprint_export.validate.latency import time_bundle

    with progress_bars(stderr) as progress:
        report = time_bundle(bundle, runs, runtime, progress)
    show_report(report, as_json)


@app.command()
def build(
    bundle: Folder,
    device: Annotated[str | None, typer.Option(help="See: list devices.")] = None,
    builder: Annotated[str, typer.Option(help="tensorrt-rtx or tensorrt.")] = "tensorrt-rtx",
    as_json: Json = False,
) -> None:
    """Build a bundle's engines for another device."""
    from sprint_export.runtimes import build_bundle

    with progress_bars(stderr) as progress:
        built: Bundle = build_bundle(bundle, device, builder, progress)
    files: list[Any] = [a.path for a in built.artifacts if a.kind == f"engine:{built.device}"]
    if as_json:
        stdout.print_json(json.dumps({"device": built.device, "engines": files}))
    else:
        stdout.print(f"{built.device}: {', '.join(files) or 'this target needs no build'}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
