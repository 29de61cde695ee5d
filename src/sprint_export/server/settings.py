"""What a server allows; standard library only."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sprint_export.errors import InputError

MOST_PORT = 65535


@dataclass(frozen=True)
class Settings:
    """Where a server listens, and how much it takes.

    Args:
        host: an address of this machine; another than loopback lets others in.
        port: 0 lets the system choose.
        api_key: what clients must send as `Authorization: Bearer KEY`; None: nothing.
        most_waiting: requests that wait for their turn; the next one is refused with 429.
        most_pictures: of one request, `n`.
        most_letters: of a prompt.
        most_body_bytes: of a request.
        head_seconds: in which a client must have sent a request's first lines; a browser's spare connection is closed then too.
        body_seconds: in which it must have sent the rest.
        closing_seconds: for requests that are under way when the server is stopped.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    most_waiting: int = 256
    most_pictures: int = 10
    most_letters: int = 4000
    most_body_bytes: int = 1 << 16
    head_seconds: float = 15.0
    body_seconds: float = 20.0
    closing_seconds: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= MOST_PORT:
            raise InputError(f"--port {self.port}: expected 1 to {MOST_PORT}, or 0 for one that is free")
        if self.most_waiting < 1:
            raise InputError(f"--queue {self.most_waiting}: expected at least 1 request that may wait")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable() and self.api_key.strip()):
            raise InputError("--api-key: expected printable ASCII letters, which an HTTP header can carry")

    @property
    def is_loopback(self) -> bool:
        """Whether programs of this machine alone can reach it: what a name leads to, nobody knows before it listens."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"
