"""serve: a bundle behind a socket, until Ctrl-C or SIGTERM; what is under way then is finished first."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sprint_export import interrupts
from sprint_export.errors import InputError, MachineError
from sprint_export.export.bundle import read_manifest
from sprint_export.libraries import require
from sprint_export.progress import Say, say_nothing
from sprint_export.runtimes.hub import find_bundle
from sprint_export.runtimes.makings import describe_making, name_student
from sprint_export.runtimes.open import open_bundle
from sprint_export.server.app import EXTRA, Service, make_app
from sprint_export.server.connections import MOST_BACKLOG, bound_connections, make_room
from sprint_export.server.drawing import Drawer
from sprint_export.server.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

KEEP_ALIVE_S = 15


def serve(
    bundle: str | Path,
    settings: Settings | None = None,
    say: Say = say_nothing,
    **opened: str | None,
) -> None:
    """Serve a bundle's pictures until this process is asked to stop.

    Args:
        bundle: a folder, or a hub id.
        settings: where to listen and what is allowed; default: 127.0.0.1, port 8000.
        say: is told, once it listens, where; and what is noteworthy, in one line each.
        opened: how, as in `open_bundle`: runtime, provider.

    Raises:
        InputError, BundleError: there is no such bundle, or no such address. MachineError: the port is taken, or starlette or
            uvicorn is missing.
    """
    settings = settings or Settings()
    require("uvicorn", EXTRA)
    require("starlette", EXTRA)
    most, backlog = make_room()
    with contextlib.closing(
        open_socket(settings, backlog)
    ) as listener:  # a port that is taken is said before networks are loaded
        host, port = listener.getsockname()[:2]
        settings = replace(settings, host=host)  # a name may be one of loopback or not: its address says it
        app, model, description = make_service(bundle, settings, **opened)
        if not settings.is_loopback:
            key = "with the key" if settings.api_key else "and there is no key: give --api-key"
            say(f"listens on {host}: whoever reaches this machine can draw, {key}")
        say(f"{model} runs on {description}; http://{f'[{host}]' if ':' in host else host}:{port}/v1")
        _run(configure(app, settings, most, backlog), listener)
    say("stopped")


def make_service(bundle: str | Path, settings: Settings, **opened: str | None) -> tuple[Starlette, str, str]:
    """The application over an opened bundle, what its model is called, and what draws."""
    folder = find_bundle(bundle)
    pipeline = open_bundle(folder, opened.get("runtime"), provider=opened.get("provider"))
    height, width = pipeline.sizes.pixels if pipeline.sizes else (0, 0)
    manifest = read_manifest(folder)
    model = f"{name_student(manifest)}-{manifest.target}-{manifest.precision}"
    drawer = Drawer(pipeline, describe_making(pipeline, folder, (width, height)), settings.most_waiting)
    return make_app(Service(pipeline, drawer, model, settings), drawer, settings), model, pipeline.description


def open_socket(settings: Settings, backlog: int = MOST_BACKLOG) -> socket.socket:
    """A socket that listens; so many connections wait until they are accepted.

    Raises:
        InputError: this machine has no such address. MachineError: the port is taken, or not this user's to take.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise InputError(f"--host {settings.host}: no such address ({error}); expected e.g. 127.0.0.1 or 0.0.0.0") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise InputError(f"--host {settings.host}: this machine has no such address; expected e.g. 127.0.0.1") from error
        reason = error.strerror or str(error)
        raise MachineError(
            f"--port {settings.port}: cannot listen there ({reason}); choose another, or 0 for a free one"
        ) from error
    return listener


def configure(app: Starlette, settings: Settings, most: int, backlog: int) -> uvicorn.Config:
    """How uvicorn serves the application, with so many connections at once."""
    import uvicorn

    protocol: Any = bound_connections(settings.head_seconds, most)
    more: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "on"}
    more |= {"timeout_keep_alive": KEEP_ALIVE_S, "timeout_graceful_shutdown": int(settings.closing_seconds)}
    return uvicorn.Config(app, http=protocol, backlog=backlog, **more)


def _run(config: uvicorn.Config, listener: socket.socket) -> None:
    """Until a signal comes; uvicorn takes both, ends in order, and then hands the signal on."""
    import uvicorn

    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        interrupts.forget()  # it was obeyed
