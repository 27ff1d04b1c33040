"""An engine behind its HTTP surface on a real socket, in the event loop of the test."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from app.engine.application import create_engine_app
from app.engine.host import Loaded
from app.generation.remote.remote_engine import RemoteEngine


class QuietServer(uvicorn.Server):
    """Leaves the signals of the test process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class SocketServer:
    """Serves an application on a free port of this machine."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self._socket = socket.create_server(("127.0.0.1", 0))
        # accepted sockets inherit it; asyncio sets it only on those whose protocol number is known
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = QuietServer(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))

    async def start(self) -> None:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def close(self) -> None:
        self._server.should_exit = True
        await self._task


class RemotelyServed(RemoteEngine):
    """A client, and the server that it calls; ``inner`` is the engine that does the work."""

    def __init__(self, inner: Any, size: int, *, token: str | None = None, **options: Any) -> None:
        async def load(_observer: object) -> Loaded:
            await inner.start()
            return Loaded(inner, size, "test")

        self.inner = inner
        self.server = SocketServer(create_engine_app(load, token=token))
        super().__init__(self.server.url, inner.basis_version, token=token, **options)

    async def start(self) -> None:
        await self.server.start()
        await super().start()

    async def close(self) -> None:
        await super().close()
        await self.server.close()

    @property
    def idle(self) -> bool:
        """Whether nothing waits at the engine and nothing is decoded."""
        return not (self.inner.queue_length or self.inner.rows or self.server.app.state.host.inside)


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that must come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
