"""The routes, over starlette: bodies with a bound, a key where one is set, errors as OpenAI's clients read them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sprint_export.errors import SprintExportError
from sprint_export.libraries import require
from sprint_export.server.drawing import Drawer, Job, Pngs
from sprint_export.server.picture_request import PictureRequest, check_model, read_request
from sprint_export.server.refusals import RefusalError
from sprint_export.server.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from sprint_export.session import Pipeline

    Answer = Callable[[Request], Awaitable[Response]]

EXTRA = "serve"
CLIENT_LEFT = 499  # nginx's number for it; nobody reads the answer
PREFIX = "sprint_export"  # of metrics
log = logging.getLogger(__name__)


class Service:
    """Answers to requests, each a coroutine from a starlette request to a response."""

    def __init__(self, pipeline: Pipeline, drawer: Drawer, model: str, settings: Settings) -> None:
        self._pipeline, self._drawer, self._model, self._settings = pipeline, drawer, model, settings
        self._started = int(time.time())

    async def draw(self, request: Request) -> Response:
        """POST /v1/images/generations."""
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, Response

        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # a page of another site cannot send that without asking
            raise RefusalError(415, f"content-type {kind[:80]!r}: expected application/json", code="unsupported_media_type")
        try:
            body = await self._read_body(request)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        asked = read_request(body, self._model, self._pipeline, self._settings)
        pngs = await self._wait(request, self._drawer.submit(asked))
        if pngs is None:
            return Response(status_code=CLIENT_LEFT)
        return JSONResponse({"created": int(time.time()), "data": _describe_pictures(asked, pngs)})

    async def _read_body(self, request: Request) -> bytes:
        most, chunks, size = self._settings.most_body_bytes, [], 0
        too_large = RefusalError(413, f"the request has more than {most} bytes", code="request_too_large")
        said = request.headers.get("content-length", "0")
        if said.isascii() and said.isdigit() and int(said) > most:
            raise too_large
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise too_large
                    chunks.append(chunk)
        except TimeoutError as error:
            seconds = self._settings.body_seconds
            raise RefusalError(408, f"the request did not come within {seconds:g} s", code="request_timeout") from error
        return b"".join(chunks)

    async def _wait(self, request: Request, job: Job) -> Pngs | None:
        """The job's PNGs; None where the client left before they were there."""
        leaving = asyncio.ensure_future(_wait_until_left(request))
        drawing = asyncio.wrap_future(job.result)
        try:
            await asyncio.wait((drawing, leaving), return_when=asyncio.FIRST_COMPLETED)
            return drawing.result() if drawing.done() else None
        finally:  # also where the server is stopped and waits no longer
            leaving.cancel()
            if not drawing.done():
                self._drawer.leave(job)
                drawing.cancel()

    async def list_models(self, request: Request) -> Response:
        """GET /v1/models, and /v1/models/{name}."""
        from starlette.responses import JSONResponse

        name = request.path_params.get("name")
        check_model(name, self._model)
        model = {"id": self._model, "object": "model", "created": self._started, "owned_by": "sprint-export"}
        return JSONResponse({"object": "list", "data": [model]} if name is None else model)

    async def check_health(self, request: Request) -> Response:
        """GET /health."""
        from starlette.responses import JSONResponse

        found = {"status": "ok", "model": self._model, "waiting": self._drawer.waiting}
        return JSONResponse(found | asdict(self._drawer.counts))

    async def show_metrics(self, request: Request) -> Response:
        """GET /metrics, in Prometheus' text format."""
        from starlette.responses import PlainTextResponse

        lines = [f"# TYPE {PREFIX}_waiting gauge", f"{PREFIX}_waiting {self._drawer.waiting}"]
        for name, value in asdict(self._drawer.counts).items():
            lines += [f"# TYPE {PREFIX}_{name}_total counter", f"{PREFIX}_{name}_total {value}"]
        return PlainTextResponse("\n".join([*lines, ""]), media_type="text/plain; version=0.0.4")


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _describe_pictures(asked: PictureRequest, pngs: Pngs) -> list[dict[str, Any]]:
    return [{"b64_json": base64.b64encode(png).decode(), "seed": asked.seed + i} for i, png in enumerate(pngs)]


def make_app(service: Service, drawer: Drawer, settings: Settings) -> Starlette:
    """The application; once it is shut down the drawer is closed."""
    require("starlette", EXTRA)
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.routing import Route

    @contextlib.asynccontextmanager
    async def close_after(app: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(drawer.close)

    routes = [
        Route("/v1/images/generations", _guard(service.draw, settings.api_key), methods=["POST"]),
        Route("/v1/models", _guard(service.list_models, settings.api_key)),
        Route("/v1/models/{name}", _guard(service.list_models, settings.api_key)),
        Route("/metrics", _guard(service.show_metrics, settings.api_key)),
        Route("/health", service.check_health),
    ]
    # A name that a stranger's page had pointed at loopback is none of these.
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    hosts = ["127.0.0.1", "localhost", "[::1]", own] if settings.is_loopback else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)]
    handlers: dict[Any, Any] = {RefusalError: _answer_refusal, 404: _answer_http, 405: _answer_http, Exception: _answer_failure}
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=close_after)


def _guard(answer: Answer, key: str | None) -> Answer:
    """The same, for who sends the key."""
    if key is None:
        return answer

    async def check(request: Request) -> Response:
        found = request.headers.get("authorization", "")
        if not hmac.compare_digest(found.encode(), f"Bearer {key}".encode()):
            raise RefusalError(401, "expected the server's key as Authorization: Bearer KEY", code="invalid_api_key")
        return await answer(request)

    return check


async def _answer_refusal(request: Request, error: RefusalError) -> Response:
    from starlette.responses import Response

    text = json.dumps(error.body)  # in ASCII: what is quoted of a request may hold halves of letters, which UTF-8 has not
    return Response(text, error.status, error.headers, media_type="application/json")


async def _answer_http(request: Request, error: Any) -> Response:
    there_are = "POST /v1/images/generations, GET /v1/models, /health and /metrics"
    message = f"{request.method} {request.url.path[:200]}: {error.detail}; there are {there_are}"
    return await _answer_refusal(request, RefusalError(error.status_code, message, code="not_found"))


async def _answer_failure(request: Request, error: Exception) -> Response:
    log.error("a request failed", exc_info=error)
    message = str(error) if isinstance(error, SprintExportError) else "the server failed at this request; its log says why"
    return await _answer_refusal(request, RefusalError(500, message, code="server_error"))
