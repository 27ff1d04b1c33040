"""The engine's life in this process: it loads in the background, then serves, then drains. Builds nothing itself."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Protocol, cast

import structlog
from fastapi import Depends, Request
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from app.engine.metrics import EngineFigures
from app.errors import Unavailable
from app.generation.observer import EngineObserver
from app.http.error_handlers import error_response, failure_of
from app.ports import Decoder

log = structlog.get_logger("attune.engine")


class ServedEngine(Decoder, EngineFigures, Protocol):
    """A decoder with an end and counters."""

    async def close(self) -> None:
        """Finish what runs, then stop."""


@dataclass(frozen=True)
class Loaded:
    """An engine that is warm, with K and the name of its backend; ``collectors`` tell more about it."""

    engine: ServedEngine
    size: int
    backend: str
    collectors: tuple[Collector, ...] = ()


Load = Callable[[EngineObserver], Awaitable[Loaded]]


@dataclass
class Host:
    """Where routes find the engine. ``inside`` counts requests that work on it; ``error`` is what kept it from loading.

    ``give_up`` is called when loading failed, so that the process ends.
    """

    load: Load
    give_up: Callable[[], None]
    loaded: Loaded | None = None
    error: BaseException | None = None
    draining: bool = False
    inside: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def need(self) -> Loaded:
        """The engine; raises ``Unavailable`` while it loads."""
        if self.loaded is None:
            raise Unavailable("This engine is still loading its model; try again when /readyz says so.")
        return self.loaded

    def admit(self) -> Loaded:
        """The engine, for new work; raises ``Unavailable`` also once the process is ending."""
        if self.draining:
            raise Unavailable("This engine is shutting down; try again on another one.", retry_after_seconds=2)
        return self.need()

    async def run(self, observer: EngineObserver, watch: Callable[[Loaded], None]) -> None:
        """Load, and serve from then on."""
        loaded = await self.load(observer)
        watch(loaded)
        self.loaded = loaded
        log.info("engine_ready", model=loaded.engine.model, basis=loaded.engine.basis_version, backend=loaded.backend)

    def ended(self, loading: "asyncio.Task[None]") -> None:
        """Keep what made ``run`` fail, and end the process."""
        if not loading.cancelled() and (error := loading.exception()) is not None:
            self.error = error
            log.error("engine_not_loaded", code=getattr(error, "code", type(error).__name__))
            self.give_up()

    async def drain(self, seconds: float, hurry: Callable[[], bool]) -> None:
        """Refuse new work and wait until the work under way is done, ``seconds`` have passed or ``hurry`` says so."""
        self.draining = True
        end = asyncio.get_running_loop().time() + seconds
        while self.inside and not hurry() and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # a second signal sets a flag, not an event


class WorkCount:
    """Counts requests that work on the engine, until their last byte; refuses new ones while there is no engine."""

    def __init__(self, app: ASGIApp, host: Host) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 503."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        try:
            self._host.admit()
        except Unavailable as error:
            response = error_response(failure_of(error), scope["path"], scope["state"]["request_id"])
            await response(scope, receive, send)
            return
        self._host.inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._host.inside -= 1


def host_of(request: Request) -> Host:
    """The host of this application."""
    return cast(Host, request.app.state.host)


HostOf = Annotated[Host, Depends(host_of)]
