"""The verbs: what one does with a bundle, and what there is to choose from."""

from __future__ import annotations

import typer

from sprint_export.cli.bench import bench
from sprint_export.cli.building import build
from sprint_export.cli.check import check
from sprint_export.cli.compare import compare
from sprint_export.cli.demo import demo
from sprint_export.cli.inspecting import inspect
from sprint_export.cli.listing import list_names
from sprint_export.cli.pack import pack
from sprint_export.cli.plan import plan
from sprint_export.cli.report import report
from sprint_export.cli.run import run
from sprint_export.cli.serve import serve
from sprint_export.cli.upload import upload
from sprint_export.cli.validate import validate


def add_verbs(app: typer.Typer) -> None:
    """Make the verbs the app's commands, in this order."""
    app.command("list")(list_names)
    for verb in (plan, inspect, run, check, validate, compare, bench, report, build, pack, demo, serve, upload):
        app.command()(verb)
