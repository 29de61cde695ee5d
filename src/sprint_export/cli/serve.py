"""`serve`: a bundle's pictures over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from sprint_export.cli import options as o
from sprint_export.cli.drawing_needs import check_drawing
from sprint_export.cli.screen import complain
from sprint_export.cli.signature import takes_options


@takes_options(o.PROVIDER)
def serve(
    bundle: o.Source,
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at, 0 for any that is free.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="SPRINT_EXPORT_API_KEY",
            help="The key that clients must send; default: none. In the environment no list of processes shows it.",
        ),
    ] = None,
    queue: Annotated[int, typer.Option(help="Requests that may wait; beyond it they are refused with 429.")] = 256,
    runtime: o.Runtime = None,
    *,
    provider: str | None,
) -> None:
    """Serve pictures as OpenAI's clients ask for them: POST /v1/images/generations. Ctrl-C ends it.

    Example: sprint-export serve my-bundle --port 8000
    """
    check_drawing("PIL", "starlette", "uvicorn")
    from sprint_export.server import Settings
    from sprint_export.server import serve as serve_bundle

    settings = Settings(host, port, api_key, queue)
    serve_bundle(bundle, settings, complain, runtime=runtime, provider=provider)
