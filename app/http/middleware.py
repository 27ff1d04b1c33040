"""Pure-ASGI middleware around every request: its id, its size, its token, its metrics and its one log line."""

import hmac
import re
import time
from collections.abc import MutableMapping
from secrets import token_hex
from typing import Any, Protocol

import structlog
from prometheus_client import Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Unauthorized
from app.http.error_handlers import CODE_OF_STATUS, Failure, error_response, failure_of

LARGEST_BODY = 1024 * 1024
REQUEST_ID = re.compile(r"^[A-Za-z0-9._\-]{1,128}$")

log = structlog.get_logger("attune.request")


class RequestMetrics(Protocol):
    """Where requests are counted: those under way, and seconds by route, method and status class."""

    inflight: Gauge
    request_seconds: Histogram


class RequestContext:
    """Gives a request its id, measures and logs it, and answers what nothing else caught."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        with self._metrics.inflight.track_inprogress():
            try:
                await self._app(scope, receive, exchange.send)
            except Exception as error:
                await exchange.fail(error, receive)
            finally:
                self._record(scope, exchange)

    def _record(self, scope: Scope, exchange: "_Exchange") -> None:
        seconds = time.perf_counter() - exchange.started
        route = getattr(scope.get("route"), "path", "none")
        status_class = f"{exchange.status // 100}xx"
        self._metrics.request_seconds.labels(route, exchange.method, status_class).observe(seconds)
        log.info(
            "request",
            request_id=exchange.request_id,
            method=exchange.method,
            route=route,
            status=exchange.status,
            duration_ms=round(seconds * 1000, 1),
        )


class _Exchange:
    """One request and what has been sent in answer to it."""

    METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get("x-request-id", "")
        self.request_id = given if REQUEST_ID.match(given) else f"req_{token_hex(12)}"
        self.method = scope["method"] if scope["method"] in self.METHODS else "other"
        self.started = time.perf_counter()
        self.status = 499  # what a client that leaves before the answer gets
        self.answering = False
        self._scope = scope
        self._send = send
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        """Send on, with the request's id in the header."""
        if message["type"] == "http.response.start":
            self.answering = True
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
        await self._send(message)

    async def fail(self, error: Exception, receive: Receive) -> None:
        """Answer an error that nobody expected, without telling what it was; the stack is in the log alone."""
        log.exception("unhandled error", request_id=self.request_id, error=type(error).__name__)
        if self.answering:
            raise error
        failure = Failure(500, CODE_OF_STATUS[500], f"Something failed here; tell us {self.request_id}.")
        await error_response(failure, self._scope["path"], self.request_id)(self._scope, receive, self.send)


class BodyLimit:
    """Refuses bodies over ``largest`` bytes, one mebibyte unless told, announced or not."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY) -> None:
        self._app, self._largest = app, largest
        self._refusal = f"The body is larger than {largest} bytes; send less at once."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting its bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdigit() and int(announced) > self._largest:
            failure = Failure(413, CODE_OF_STATUS[413], self._refusal)
            await error_response(failure, scope["path"], scope["state"]["request_id"])(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._largest:
                raise HTTPException(413, self._refusal)
            return message

        await self._app(scope, counted, send)


class BearerToken:
    """Lets only callers with the token reach ``/v1``; before anything of the request is read."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        guarded = scope["type"] == "http" and (scope["path"] == "/v1" or scope["path"].startswith("/v1/"))
        if guarded and self._expected is not None:
            given = Headers(scope=scope).get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._expected):
                failure = failure_of(Unauthorized())
                await error_response(failure, scope["path"], scope["state"]["request_id"])(scope, receive, send)
                return
        await self._app(scope, receive, send)
