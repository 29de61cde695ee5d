"""`sprint-export pack`: what ships of a bundle, in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import note, show, stderr, stdout, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.nouns.destination import DESTINATIONS

if TYPE_CHECKING:
    from sprint_export.packing import Packed

_FOR = f"What app it is for: {', '.join(each.name for each in DESTINATIONS)}."


@takes_options()
def pack(
    bundle: o.Source,
    destination: Annotated[str, typer.Option("--for", metavar="APP", help=_FOR)],
    out: Annotated[Path | None, typer.Option(help="The new folder; default: <bundle>-<app>.")] = None,
    one_graph: Annotated[
        bool, typer.Option("--one-graph", help="Join the networks in one ONNX graph: ids, mask and noise in, the picture out.")
    ] = False,
    shard_mb: Annotated[
        int | None, typer.Option(help="Keep weights beside the graphs, in files of at most so many MB (10^6 bytes).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is at --out.")] = False,
    no_draw: Annotated[
        bool, typer.Option("--no-draw", help="Draw no picture to compare; files are compared all the same.")
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Pack what ships of a bundle for an app: graphs, tokenizer, app.json, licences; read back, and drawn with.

    Example: sprint-export pack my-bundle --for web
    """
    from sprint_export.packing import pack_bundle

    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        packed = pack_bundle(bundle, destination, out, one_graph, shard_mb, overwrite, not no_draw, progress)
    for text in packed.notes:
        note(text)
    if as_json:
        stdout.print_json(json.dumps(_tabulate(packed), allow_nan=False))
        return
    for line in _describe(packed):
        show(line)


def _tabulate(packed: Packed) -> dict[str, Any]:
    comparison = packed.comparison
    return {
        "folder": str(packed.folder),
        "for": packed.destination,
        "files": [vars(file) for file in packed.files],
        "bytes": packed.bytes,
        "largest": packed.largest.path,
        "comparison": None if comparison is None else vars(comparison),
        "undrawn": packed.undrawn,
        "is_new": packed.is_new,
    }


def _describe(packed: Packed) -> list[str]:
    """A line a file, then the whole, and what was compared."""
    width, found = max(len(file.path) for file in packed.files), packed.comparison
    lines = [f"{file.path:<{width}}  {file.bytes:>15,} bytes" for file in packed.files]
    whole = f"{len(packed.files)} files, {packed.bytes / 1e6:,.2f} MB"
    lines.append(f"{packed.folder}: {whole}; the largest is {packed.largest.path}")
    if not packed.is_new:
        lines.append("packed from the same bundle in the same way; nothing to do")
    if found is not None:
        apart = f"at most {found.pixels} of 255 apart, {found.values:g} before rounding"
        lines.append(f"one picture beside the bundle's on {found.runtime}: {apart}")
    if packed.undrawn:
        lines.append(f"no picture was drawn: {packed.undrawn}")
    return lines
