"""The verbs: what one does with a bundle, and what there is to choose from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sprint_export.cli import against_reference
from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.bench import bench
from sprint_export.cli.check import check
from sprint_export.cli.compare import compare
from sprint_export.cli.demo import demo
from sprint_export.cli.pack import pack
from sprint_export.cli.plan import plan
from sprint_export.cli.report import report as show_or_join
from sprint_export.cli.run import run
from sprint_export.cli.screen import complain, note, show, stderr, stdout, verbosity
from sprint_export.cli.serve import serve
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.cli.upload import upload
from sprint_export.compute import check_compute, choose_compute
from sprint_export.errors import InputError
from sprint_export.libraries import DRAWING, EXPORTING, REPORTING, check_installed
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.order import Order, make_parts
from sprint_export.nouns.parts import NO_PARTS
from sprint_export.nouns.report import Report
from sprint_export.nouns.target import OptionValue
from sprint_export.options import keep_asked, merge_options

ASKED = ("gates", "count", "budget", "compute", "metrics", "metric_weights", "scorers")  # of an order: of its validation
PARTS = ("lora", "decoder", "vae", "text_encoder", "controlnet")  # of an order: what changes or completes a checkpoint


def add_verbs(app: typer.Typer) -> None:
    """Make the functions below the app's commands, in this order."""
    app.command("list")(list_names)
    for verb in (plan, inspect, run, check, validate, compare, bench, show_or_join, build, pack, demo, serve, upload):
        app.command()(verb)


def show_results(results: Sequence[Report | Bundle], as_json: bool, as_list: bool = False, allow_undecided: bool = False) -> None:
    """Reports, and bundles without one, as tables or as JSON; leaves with status 1 where a gate is not met or not decided.

    Args:
        results: one, or several.
        as_json: print JSON.
        as_list: of several targets: JSON is a list, and a gate that is not met is said with the target's name.
        allow_undecided: a gate that is not decided is said, and is no failure.
    """
    from sprint_export.validate.report import list_complaints
    from sprint_export.validate.report_file import describe_report

    if as_json:
        values = [{"bundle": str(each.folder)} if isinstance(each, Bundle) else describe_report(each) for each in results]
        stdout.print_json(json.dumps(values if as_list else values[0], allow_nan=False))
    else:
        for each in results:
            _show_result(each)
    reports = [each for each in results if isinstance(each, Report)]
    for report in reports:
        for complaint in list_complaints(report):
            complain(f"{report.target + ': ' if as_list else ''}{complaint}. The bundle is kept.")
    if any(report.verdict == "not met" or not (report.passed or allow_undecided) for report in reports):
        raise typer.Exit(1)


def _show_result(result: Report | Bundle) -> None:
    from sprint_export.validate.report import render_report

    if isinstance(result, Bundle):
        show(f"bundle: {result.folder} (not validated)")
        return
    for table in render_report(result):
        stdout.print(table)
    for sentence in result.unchecked:
        show(f"not checked: {sentence}")
    show(f"bundle: {result.bundle}")


@takes_options()
def list_names(
    what: Annotated[
        str | None, typer.Argument(metavar="WHAT", help="students, targets, precisions, devices, recipes or providers.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """List students, targets, precisions, devices, recipes or providers.

    Example: sprint-export list targets
    """
    from sprint_export.inspection import list_names as find_names

    found = find_names(what)
    if as_json:
        stdout.print_json(json.dumps(found))
        return
    width = max(map(len, found))
    for name, meaning in found.items():
        show(f"{name:<{width}}  {meaning}")


@takes_options(*o.pick_options("device", "variant"))
def inspect(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A folder that sprint-export made, or its hub id; with --target a student.")
    ],
    target: Annotated[str | None, typer.Option(help="Plan a student's memory for this target; see: list targets.")] = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show every quantized layer.")] = False,
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Show for every layer whether it is quantized, and by which rule.")
    ] = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="With --recipe: print it as TOML, to edit and give to sprint-export --recipe.")
    ] = False,
    as_json: o.Json = False,
    **asked: Any,
) -> None:
    """Say what a bundle holds; its files are checked against their sha256.

    Example: sprint-export inspect my-bundle
    """
    from sprint_export.estimates.memory import describe_memory, read_memory
    from sprint_export.export.bundle import read_bundle
    from sprint_export.inspection import describe_bundle, describe_recipe, require_recipe, tabulate_recipe
    from sprint_export.json_forms import to_json
    from sprint_export.recipe_toml import write_recipe

    if toml and (as_json or not recipe):
        raise InputError("--toml prints a recipe: expected --recipe --toml, without --json")
    if target is not None:
        if layers or recipe:
            raise InputError("--target plans a student's memory: expected no --layers and no --recipe, which a bundle has")
        _show_memory(Order(bundle, target, device=asked["device"], variant=asked["variant"], validate=False), as_json)
        return
    if given := keep_asked(asked):
        raise InputError(f"--{next(iter(given))} is for planning a student's memory: expected --target beside it")
    found = read_bundle(find_source(bundle))
    if toml:
        stdout.out(write_recipe(require_recipe(found)), end="", highlight=False)
    elif as_json:
        stdout.print_json(json.dumps(describe_recipe(found) if recipe else to_json(found)))
    elif recipe:
        for table in tabulate_recipe(found):
            stdout.print(table)
    else:
        title = f"{found.target}-{found.precision} on {found.device}"
        for line in (*describe_bundle(found, layers), *describe_memory(read_memory(found), title)):
            stdout.print(line, markup=False, highlight=False)


def _show_memory(order: Order, as_json: bool) -> None:
    """What a student's networks will hold where they run."""
    from sprint_export.conversion import load_orders
    from sprint_export.estimates.memory import describe_memory, plan_memory
    from sprint_export.json_forms import to_json
    from sprint_export.run_checks import check_order, load_libraries

    checked = check_order(order)
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        load_libraries(progress)
        found = plan_memory(load_orders([checked], progress), checked)
    if as_json:
        stdout.print_json(json.dumps(to_json(found)))
    else:
        deployment = checked.deployment
        for line in describe_memory(found, f"{deployment.name} on {deployment.device.name}"):
            show(line)


@takes_options(
    o.PROVIDER,
    *o.pick_options("variant", *PARTS, *ASKED),
    o.RAY,
    *against_reference.OPTIONS,
    o.ALLOW_UNDECIDED,
    *o.CI_OPTIONS,
)
def validate(
    bundle: o.Source,
    student: Annotated[
        str | None,
        typer.Option(
            help="The student to compare with; default: the one it was made from, where that is embedded or random:PRESET."
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE|SET:PATH", help="A file, one prompt a line; - for stdin; or a set, e.g. geneval:PATH."),
    ] = None,
    runtime: o.Runtime = None,
    as_json: o.Json = False,
    *,
    variant: str | None,
    allow_undecided: bool,
    **asked: Any,
) -> None:
    """Run a bundle beside PyTorch on the same prompts and noise; write report.json and contact_sheet.png into it.

    With --reference, and where PyTorch is not installed: beside the pictures that its reference/ holds, writing nothing into it.
    """
    files = o.read_ci_files(asked)
    own = {option.name: asked.pop(option.name) for option in against_reference.OPTIONS}
    defaults = {"provider": asked["provider"]} | {option.name: option.default for option in o.ORDER_OPTIONS}
    gates = asked.pop("gates") or []
    others = {name: value for name, value in asked.items() if value != defaults.get(name)}
    if against_reference.is_against_reference(own, others | {"student": student, "prompts": prompts, "variant": variant}):
        asks = {"gates": gates, "runtime": runtime, "provider": asked["provider"]}
        against_reference.validate_device(find_source(bundle), own | {"allow_undecided": allow_undecided}, as_json, files, **asks)
        return
    from sprint_export.export.bundle import read_bundle
    from sprint_export.run_checks import check_report_gates, load_libraries
    from sprint_export.students.source import check_source
    from sprint_export.validate.image_metrics.measuring import choose_metrics, list_faults, read_choice
    from sprint_export.validate.pace import read_budget

    choice = read_choice(asked["metrics"], asked["metric_weights"], asked["scorers"])
    folder = find_source(bundle)
    demands = check_report_gates(read_bundle(folder, verify=False), gates, runtime, asked["provider"], choice)
    read_budget(asked["budget"])
    for sentence in list_faults(choose_metrics(choice), choice.weights):
        note(f"will not be measured: {sentence}")
    given = o.read_prompts(prompts)
    check_compute(asked["compute"])
    parts = make_parts(**{name: asked.pop(name) for name in PARTS})
    if student is not None:
        check_source(student, parts)
    elif parts != NO_PARTS:
        raise InputError(
            "--lora, --decoder, --vae, --text-encoder and --controlnet belong to a checkpoint; give that with --student too"
        )
    check_installed((*EXPORTING, *DRAWING, *REPORTING))
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        load_libraries(progress)
        from sprint_export.students import load_student
        from sprint_export.validate import validate_bundle

        loaded = None if student is None else load_student(student, variant, parts)
        asked |= {"gates": demands, "runtime": runtime, "compute": choose_compute(asked["compute"], note)}
        asked |= {"metrics": choice.names, "scorers": choice.scorers}
        report = validate_bundle(folder, loaded, given, progress, **asked)
    files.write([report], allow_undecided)
    show_results([report], as_json, allow_undecided=allow_undecided)


@takes_options(*merge_options(is_for_building=True))
def build(
    bundle: o.Source,
    device: Annotated[
        str | None, typer.Option(help="The device to build for; see: list devices. Default: the bundle's own.")
    ] = None,
    as_json: o.Json = False,
    **options: OptionValue | None,
) -> None:
    """Build a bundle's engines for another device.

    Example: sprint-export build my-bundle --device rtx-4070
    """
    from sprint_export.runtimes import build_bundle

    folder = find_source(bundle)
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        built: Bundle = build_bundle(folder, device, keep_asked(options), progress)
    files = [a.path for a in built.artifacts if (a.kind, a.device) == ("engine", built.device)]
    if as_json:
        stdout.print_json(json.dumps({"device": built.device, "engines": files}))
    else:
        show(f"{built.device}: {', '.join(files) or 'this target needs no build'}")
