"""Where a cluster is, looked at before anything is drawn: Ray itself takes a minute to say that nobody is there."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from sprint_export.errors import InputError, MachineError

LOCAL, AUTO = "local", "auto"
WAIT_S = 10.0
FORM = f"{LOCAL!r}, {AUTO}, or the HOST:PORT that `ray start --head` said"


def check_address(address: str) -> None:
    """Whether somebody listens at HOST:PORT; `local` and `auto` are Ray's to find.

    Raises:
        InputError: it is no address. MachineError: nobody is there.
    """
    if address in (LOCAL, AUTO):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.scheme not in ("", "ray"):
        raise InputError(f"--ray {address!r} is no address; expected {FORM}")
    try:
        socket.create_connection((host, port), WAIT_S).close()
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or error
        raise MachineError(f"--ray {address}: no Ray cluster there ({said}); expected {FORM}") from error
