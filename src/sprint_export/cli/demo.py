"""The verb `demo`: a page that draws from a bundle in the browser, served here or written as static files."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sprint_export import interrupts
from sprint_export.cli import options as o
from sprint_export.cli.bars import progress_bars
from sprint_export.cli.screen import note, show, stderr, verbosity
from sprint_export.cli.signature import takes_options
from sprint_export.cli.source import find_source
from sprint_export.errors import InputError
from sprint_export.progress import Progress, Step

if TYPE_CHECKING:
    from sprint_export.demo.server import SiteServer
    from sprint_export.demo.site_files import Site

MEGABYTE = 1e6


@takes_options()
def demo(
    bundle: o.Source,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The port to listen at, 0 for any that is free; default: the first free one from 8484 on."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in a browser.")] = True,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page into this new folder, for any static server, and stop.")
    ] = None,
    node_modules: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where onnxruntime-web and @huggingface/tokenizers lie; default: from npm.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Show a bundle on a page: type, and the browser draws. Ctrl-C ends it.

    Example: sprint-export demo my-bundle
    """
    from sprint_export.demo.server import open_server
    from sprint_export.demo.static_copy import check_new, write_site

    if out is not None:
        if port is not None:
            raise InputError(f"--port {port} is for serving: expected no --out beside it")
        check_new(out)
    folder = find_source(bundle)
    with progress_bars(stderr, verbosity.is_quiet, verbosity.is_verbose) as progress:
        site = _gather(folder, node_modules, progress)
        if out is not None:
            write_site(site, out, progress)
    if out is not None:
        _say(as_json, {"out": str(out)}, site, "serve it with any server of static files")
        return
    with open_server(site, host, port, log=_log) as server:
        _say(as_json, {"url": server.url}, site, "Ctrl-C ends it")
        _serve(server, opens)


def _say(as_json: bool, where: dict[str, str], site: Site, advice: str) -> None:
    """Where the page is, at once: a program waits for it."""
    if as_json:
        show(json.dumps(where | {"files": len(site.files), "bytes": site.size}))  # one line: the command goes on behind it
    else:
        show(f"{site.title}: {next(iter(where.values()))} ({len(site.files)} files, {site.size / MEGABYTE:.1f} MB); {advice}")
    sys.stdout.flush()


def _log(line: str) -> None:
    if verbosity.is_verbose:
        note(line)


def _gather(bundle: Path, node_modules: Path | None, progress: Progress) -> Site:
    """All that is served or written."""
    from sprint_export.demo.app_files import read_app
    from sprint_export.demo.npm_files import find_packages, read_packages
    from sprint_export.demo.site_files import PAGE, check_runs, make_site

    progress(Step("reading", str(bundle)), 0, 1)
    app, packages = read_app(bundle), read_packages(PAGE)
    check_runs(app, packages)
    progress(Step("reading", str(bundle)), 1, 1)
    return make_site(app, find_packages(packages, node_modules, progress))


def _serve(server: SiteServer, opens: bool) -> None:
    """Answer until Ctrl-C, which is how one ends it: status 0."""
    if opens and _has_browser():
        import webbrowser

        webbrowser.open(server.url)
    try:
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        if interrupts.stopped_by() not in (None, signal.SIGINT):
            raise
        interrupts.forget()
    finally:
        server.server_close()


def _has_browser() -> bool:
    """Whether there is a screen for one: where there is none some systems start a browser in the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
