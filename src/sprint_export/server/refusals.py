"""What a request is answered that cannot be served: OpenAI's error object and the status that its clients act on."""

from __future__ import annotations

from typing import Any


class RefusalError(Exception):
    """An answer other than pictures.

    Args:
        status: of HTTP; clients try 429 and 503 again.
        message: what was found, what was expected, what to do.
        parameter: of the request that is wrong.
        code: a word for programs.
        retry_seconds: after which the client should try again.
    """

    def __init__(
        self, status: int, message: str, parameter: str | None = None, code: str | None = None, retry_seconds: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.parameter, self.code = status, message, parameter, code
        self.retry_seconds = retry_seconds

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI's API has it."""
        kind = {401: "authentication_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        kind = "server_error" if self.status >= 500 else kind
        return {"error": {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After, where there is one."""
        return {} if self.retry_seconds is None else {"Retry-After": str(self.retry_seconds)}


def refuse_value(parameter: str, found: object, expected: str) -> RefusalError:
    """A 400 for one value of a request."""
    return RefusalError(400, f"{parameter}={_shorten(found)}: expected {expected}", parameter, "invalid_value")


def _shorten(found: object, most: int = 80) -> str:
    text = repr(found)
    return text if len(text) <= most else f"{text[:most]}..."
