"""One line in the log and one count for each request, and a limit on its body. What a request means is for the routes."""

import time
from typing import TypeAlias

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_plane.metrics import HttpMetrics

Headers: TypeAlias = list[tuple[bytes, bytes]]


class AccessLog:
    """ASGI middleware: measures each request from its arrival to the last byte of its answer."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            self._record(scope, status, time.perf_counter() - begin)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        # The template, never the path: what callers type must not become a label.
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.observe(scope["method"], route, status, seconds)
        self._log.info("request", method=scope["method"], path=scope["path"], status=status, milliseconds=round(seconds * 1000, 3))


class BodyLimit:
    """ASGI middleware: ends the reading of a body that is larger than `limit` bytes with status 413."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        size = 0

        async def count() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise HTTPException(413, f"the body is larger than {self._limit} bytes: send fewer rows at once", {"Connection": "close"})
            return message

        await self._app(scope, count, send)
