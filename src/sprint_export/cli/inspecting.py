"""The verb `inspect`: what a bundle holds, its recipe, or what a student will hold where it runs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.errors import InputError
from sprint_export.nouns.order import Order
from sprint_export.options import keep_asked


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
