"""The verb `list`: what there is to choose from."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from sprint_export.cli import options as o
from sprint_export.cli.screen import show, stdout
from sprint_export.cli.signature import takes_options


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
