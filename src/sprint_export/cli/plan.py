"""The verb `plan`: memory, priced time, what dominates it and what would help, before one has the device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.errors import InputError
from sprint_export.nouns.option import Option
from sprint_export.paths import is_folder

if TYPE_CHECKING:
    from sprint_export.planning.asking import Wanted

OPTIONS = (
    Option("device", "The devices to price for, with commas; see: list devices. Default: a bundle's own."),
    Option("target", "The targets to price, with commas; default: the fastest on the device."),
    Option("steps", "Sampling steps of a student.", int, 1),
    Option("prompt_tokens", "Rows of text of a student; default 300.", int),
    Option("decoder", "Another decoder of the student's latent space, to see what it gains: a folder or hub id."),
    Option("build", "Build engines of the --target and price their kernel tables; needs no GPU, takes minutes.", bool, False),
    Option("measured", "What `bench --json` printed, beside the prices; may be repeated.", Path, None, None, (), "FILE", True),
    Option("prices", "A price list that --fit wrote.", Path, metavar="FILE"),
    Option("fit", "Fit a price list to what `bench --json` printed; may be repeated.", Path, None, None, (), "FILE", True),
    Option("save", "With --fit: where the price list goes.", Path, metavar="FILE"),
)


@takes_options(*OPTIONS)
def plan(
    source: Annotated[
        str | None, typer.Argument(metavar="STUDENT|BUNDLE", help="As for --student, or a folder that sprint-export made.")
    ] = None,
    as_json: o.Json = False,
    **asked: Any,
) -> None:
    """Say what a student or a bundle holds and costs on a device that need not be here.

    Example: sprint-export plan random:sana-sprint-0.6b --device rtx-4070-laptop
    """
    _check_together(source, asked)
    from sprint_export.planning.asking import Wanted

    wanted = None if source is None else Wanted(source, asked["steps"], asked["prompt_tokens"], asked["decoder"], asked["build"])
    if asked["fit"]:
        _fit(wanted, asked, as_json)
    elif wanted is not None:
        _plan(wanted, asked, as_json)


def _check_together(source: str | None, asked: dict[str, Any]) -> None:
    if asked["save"] is not None and not asked["fit"]:
        raise InputError("--save is where a fitted price list goes; expected --fit FILE beside it")
    if asked["save"] is not None and is_folder(asked["save"]):
        raise InputError(f"--save {asked['save']} is a folder; expected the name of a file, e.g. {asked['save'] / 'prices.json'}")
    if source is None and not asked["fit"]:
        raise InputError("STUDENT|BUNDLE is missing; e.g. sprint-export plan random:sana-sprint-0.6b --device rtx-4070-laptop")
    if asked["fit"] and (clashing := [name for name in ("measured", "prices", "target", "decoder", "build") if asked[name]]):
        raise InputError(f"--fit makes a price list and plans nothing; expected no --{clashing[0]} beside it")


def _plan(wanted: Wanted, asked: dict[str, Any], as_json: bool) -> None:
    from sprint_export.planning.asking import find_bundle, find_devices, plan_devices
    from sprint_export.planning.measured import read_measured
    from sprint_export.planning.plan import Question
    from sprint_export.planning.price_file import read_prices
    from sprint_export.planning.tables import describe_answer, tabulate_answer

    names = getattr(find_bundle(wanted.source), "device", None) if asked["device"] is None else asked["device"]
    if names is None:
        raise InputError("--device is missing; e.g. --device rtx-4090,iphone-17-pro (all: sprint-export list devices)")
    question = Question(
        find_devices(names),
        () if asked["target"] is None else tuple(name.strip() for name in asked["target"].split(",")),
        tuple(map(read_measured, asked["measured"] or ())),
        None if asked["prices"] is None else read_prices(asked["prices"]),
    )
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        answers = plan_devices(wanted, question, progress)
    if as_json:
        stdout.print_json(json.dumps([tabulate_answer(answer, advices) for answer, advices in answers], allow_nan=False))
        return
    for answer, advices in answers:
        for line in describe_answer(answer, advices):
            show(line)


def _fit(wanted: Wanted | None, asked: dict[str, Any], as_json: bool) -> None:
    from sprint_export.json_forms import to_json
    from sprint_export.planning.asking import fit_measured
    from sprint_export.planning.measured import read_measured
    from sprint_export.planning.price_file import save_prices
    from sprint_export.planning.tables import describe_fit

    measured = tuple(map(read_measured, asked["fit"]))
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        fit = fit_measured(wanted, measured, asked["device"], progress, note)
    if asked["save"] is not None:
        save_prices(
            asked["save"], fit.prices, {"before": to_json(fit.before), "kept": fit.kept, "networks": to_json(fit.residuals)}
        )
    if as_json:
        stdout.print_json(json.dumps(to_json(fit), allow_nan=False))
        return
    for line in describe_fit(fit):
        show(line)
    if asked["save"] is not None:
        show(f"saved: {asked['save']}; use it: sprint-export plan ... --prices {asked['save']}")
