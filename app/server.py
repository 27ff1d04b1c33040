"""Runs an application in uvicorn, the service's or the engine's, and tells where it listens once it does."""

import asyncio
import logging
import math
import shlex
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import uvicorn
from fastapi import FastAPI

from app.backends import open_decoder
from app.config import Settings
from app.engine.application import create_engine_app
from app.engine.host import Host
from app.errors import AttuneError
from app.logs import configure_logging
from app.main import create_app

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104


class Server(uvicorn.Server):
    """A server that says what it serves as soon as it answers, and may be ended before."""

    def __init__(self, config: uvicorn.Config, greet: Callable[[int], str]) -> None:
        super().__init__(config)
        self._greet = greet

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell where; a signal ends also a start that waits for an engine, which uvicorn would finish."""
        async with self._unless_told_to_exit():
            await super().startup(sockets)
        if self.started and self.servers:
            print(self._greet(self.servers[0].sockets[0].getsockname()[1]), flush=True)

    @asynccontextmanager
    async def _unless_told_to_exit(self) -> AsyncIterator[None]:
        """Cut the block short once a signal has come."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        watcher = asyncio.create_task(self._cancel_at_exit(task))
        try:
            yield
        except asyncio.CancelledError:
            if not self.should_exit:
                raise
            task.uncancel()
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the start that is cut short is no failure
        finally:
            watcher.cancel()

    async def _cancel_at_exit(self, starting: "asyncio.Task[object]") -> None:
        while not self.should_exit:  # noqa: ASYNC110 - a signal sets a flag, not an event
            await asyncio.sleep(0.1)
        starting.cancel()


class EngineServer(Server):
    """A server that drains its engine before it closes: new work is refused, work under way is finished."""

    host: Host

    def give_up(self) -> None:
        """End, since the engine could not be loaded."""
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain for at most the time that a shutdown may take, then close with what is left of it."""
        allowed = self.config.timeout_graceful_shutdown or 0
        began = time.monotonic()
        await self.host.drain(allowed, lambda: self.force_exit)
        self.config.timeout_graceful_shutdown = max(1, math.ceil(allowed - (time.monotonic() - began)))
        await super().shutdown(sockets)


def run(settings: Settings) -> None:
    """Serve until a signal; raises the error of ours that keeps the application from starting."""
    configure_logging(settings.log_level)
    app = create_app(settings)
    try:
        Server(_config(app, settings), partial(greeting, settings)).run()
    except KeyboardInterrupt:
        return
    except SystemExit:
        if isinstance(app.state.start_error, AttuneError):
            raise app.state.start_error from None
        raise


def run_engine(settings: Settings) -> None:
    """Serve the engine until a signal; raises the error that keeps it from being loaded."""
    configure_logging(settings.log_level)
    app = create_engine_app(partial(open_decoder, settings.engine), token=settings.engine_token)
    server = EngineServer(_config(app, settings), partial(engine_greeting, settings))
    server.host = app.state.host
    server.host.give_up = server.give_up
    with suppress(KeyboardInterrupt):
        server.run()
    if server.host.error is not None:
        raise server.host.error


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=settings.shutdown_seconds,
        server_header=False,
    )


def engine_greeting(settings: Settings, port: int) -> str:
    """Where the engine listens, and how to use it."""
    address = _address(settings, port)
    return (
        f"attune engine answers at {address} once {address}/readyz does; every route is at {address}/docs. To use it:\n"
        f"  ATTUNE_ENGINE_URL={address} attune serve"
    )


def _address(settings: Settings, port: int) -> str:
    host = "127.0.0.1" if settings.host in ANY_ADDRESS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def greeting(settings: Settings, port: int) -> str:
    """Where to look, and two commands to begin with."""
    address = _address(settings, port)
    token = "-H 'Authorization: Bearer '\"$ATTUNE_AUTH__TOKEN\" " if settings.token else ""
    json = f"{token}-H 'Content-Type: application/json'"
    start = shlex.quote('{"user_id": "ada", "max_questions": 10}')
    return (
        f"attune answers at {address}; every route is at {address}/docs. To begin:\n"
        f"  curl -X PUT {address}/v1/users/ada {json} -d '{{}}'\n"
        f"  curl -X POST {address}/v1/questionnaires {json} -d {start}"
    )
