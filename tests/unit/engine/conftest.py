from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import structlog

from app.engine.application import create_engine_app
from app.engine.host import Loaded
from app.generation.scripted import ScriptedEngine
from tests.fakes.remote import SocketServer

SIZE = 4


@pytest.fixture(autouse=True, scope="session")
def plain_log() -> None:
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])


class ServedEngine:
    """A scripted engine behind its HTTP surface on a real socket."""

    def __init__(self, engine: Any, token: str | None = None) -> None:
        async def load(_observer: object) -> Loaded:
            return Loaded(engine, SIZE, "scripted")

        self.engine = engine
        self.server = SocketServer(create_engine_app(load, token=token))
        self.url, self.host = self.server.url, self.server.app.state.host

    @property
    def idle(self) -> bool:
        return not (self.engine.queue_length or self.engine.rows or self.host.inside)


@pytest.fixture
async def served(anyio_backend: str) -> AsyncIterator[ServedEngine]:
    served = ServedEngine(ScriptedEngine(size=SIZE, queue_size=2, max_rows=16, timeout_seconds=20))
    await served.server.start()
    yield served
    await served.server.close()


@pytest.fixture
async def http(served: ServedEngine) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=served.url, timeout=20) as client:
        while (await client.get("/readyz")).status_code != 200:
            pass
        yield client
