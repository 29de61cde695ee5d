"""The verb `build`: engines of a bundle for another device."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.target import OptionValue
from sprint_export.options import keep_asked, merge_options


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
