"""How many connections a server holds, and how long it waits for one that says nothing.

uvicorn waits for ever for a request's first lines, and takes connections until the process may open no more files: then each
accept fails, with a traceback in the log, and nobody is served. Here a connection is closed whose request's head does not come in
time, at first and between requests, and one too many is answered 503 at once.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

MOST_CONNECTIONS = 4096
OWN_FILES = 128  # that a server opens beside its connections
MOST_BACKLOG = 1024  # connections that the system holds until they are accepted, and that are accepted at once
FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def make_room() -> tuple[int, int]:
    """Raise this process's limit of open files where it may; (connections that it leaves room for, length of the backlog)."""
    files = _raise_limit(MOST_CONNECTIONS + MOST_BACKLOG + OWN_FILES)
    backlog = min(MOST_BACKLOG, files // 4)
    return max(1, min(MOST_CONNECTIONS, files - backlog - OWN_FILES)), backlog


def _raise_limit(wanted: int) -> int:
    """How many files this process may open then."""
    if os.name == "nt":
        return wanted  # sockets are no files there
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return wanted if soft == resource.RLIM_INFINITY else min(wanted, soft)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def bound_connections(head_seconds: float, most: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with both bounds.

    Args:
        head_seconds: in which a client must have sent a request's first lines, once it has begun or connected.
        most: connections at once.
    """
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class BoundedProtocol(H11Protocol):
        """One connection."""

        _ending: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.write(FULL)
                transport.close()
                return
            self._watch()

        def data_received(self, data: bytes) -> None:
            if not self.transport.is_closing():
                super().data_received(data)
                self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """Count the seconds of a head that is not whole."""
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._ending is None:
                self._ending = self.loop.call_later(head_seconds, self.transport.close)

        def _forget(self) -> None:
            if self._ending is not None:
                self._ending.cancel()
                self._ending = None

    return BoundedProtocol
