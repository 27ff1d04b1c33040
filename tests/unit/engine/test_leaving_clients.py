"""Clients that leave, queues that are full, processes that end: every place is free again."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from app.engine.application import create_engine_app
from app.engine.host import Loaded
from app.errors import ArtifactIncompatible
from tests.fakes.remote import until
from tests.unit.engine.conftest import ServedEngine

pytestmark = pytest.mark.anyio

SLOW: dict[str, Any] = {"prompt": "What should I cook?", "max_tokens": 60, "seed": 5, "n": 16}
WHOLE: dict[str, Any] = {name: value for name, value in SLOW.items() if name != "n"}


async def leave_after(served: ServedEngine, path: str, body: dict[str, Any], received: int, rows: int = 1) -> None:
    """Send a request over a connection of its own and cut it after some bytes of the answer, or once rows are taken."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: e\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()
    if received:
        await reader.readexactly(received)
    else:
        await until(lambda: served.engine.rows >= rows)
    writer.transport.abort()


@pytest.mark.parametrize("received", [0, 200, 600])
async def test_a_client_that_leaves_amid_a_stream_frees_everything(
    http: httpx2.AsyncClient, served: ServedEngine, received: int
) -> None:
    served.engine.token_seconds = 0.05
    await leave_after(served, "/v1/guided", WHOLE, received)
    await until(lambda: served.idle, seconds=2)


async def test_a_client_that_leaves_amid_a_best_of_n_frees_every_row(
    http: httpx2.AsyncClient, served: ServedEngine
) -> None:
    served.engine.latency_seconds = 15
    await leave_after(served, "/v1/candidates", SLOW, 0, rows=16)
    await until(lambda: served.idle, seconds=2)


async def test_a_client_that_leaves_while_it_waits_leaves_the_queue(
    http: httpx2.AsyncClient, served: ServedEngine
) -> None:
    served.engine.latency_seconds = 15
    first = asyncio.create_task(http.post("/v1/candidates", json=SLOW))
    await until(lambda: served.engine.rows == 16)
    second = asyncio.create_task(http.post("/v1/candidates", json=SLOW))
    await until(lambda: served.engine.queue_length == 1)
    second.cancel()
    await until(lambda: served.engine.queue_length == 0, seconds=2)
    first.cancel()
    await until(lambda: served.idle, seconds=2)


async def test_a_full_queue_is_a_503_that_says_when_to_come_back_and_recovers(
    http: httpx2.AsyncClient, served: ServedEngine
) -> None:
    served.engine.latency_seconds = 15
    tasks = [asyncio.create_task(http.post("/v1/candidates", json={**SLOW, "seed": seed})) for seed in range(3)]
    await until(lambda: served.engine.queue_length == 2)
    refused = await http.post("/v1/candidates", json=SLOW)
    assert (refused.status_code, refused.json()["code"]) == (503, "engine_overloaded")
    assert int(refused.headers["retry-after"]) > 0
    for task in tasks:
        task.cancel()
    await until(lambda: served.idle)
    served.engine.latency_seconds = 0
    assert (await http.post("/v1/candidates", json=SLOW)).status_code == 200


async def test_many_clients_that_leave_at_any_moment_leave_nothing_behind(
    http: httpx2.AsyncClient, served: ServedEngine
) -> None:
    served.engine.token_seconds, served.engine._gate.queue_size = 0.002, 1000

    async def come_and_go(number: int) -> None:
        path, body = ("/v1/guided", WHOLE) if number % 2 else ("/v1/candidates", SLOW)
        task = asyncio.create_task(http.post(path, json={**body, "tenant": str(number % 5)}))
        await asyncio.sleep(0.0005 * number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(come_and_go(number) for number in range(120)))
    await until(lambda: served.idle)
    assert (await http.post("/v1/candidates", json=SLOW)).status_code == 200


async def test_while_it_drains_new_work_is_refused_and_old_work_is_finished(
    http: httpx2.AsyncClient, served: ServedEngine
) -> None:
    served.engine.latency_seconds = 0.3
    running = asyncio.create_task(http.post("/v1/candidates", json=SLOW))
    await until(lambda: served.host.inside == 1)
    draining = asyncio.create_task(served.host.drain(10, lambda: False))
    await until(lambda: served.host.draining)
    refused = await http.post("/v1/candidates", json=SLOW)
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert (await http.get("/readyz")).status_code == 503
    assert (await http.get("/livez")).status_code == 200
    assert (await running).status_code == 200
    await draining


async def test_draining_ends_in_its_time_though_work_does_not(http: httpx2.AsyncClient, served: ServedEngine) -> None:
    served.engine.latency_seconds = 15
    running = asyncio.create_task(http.post("/v1/candidates", json=SLOW))
    await until(lambda: served.host.inside == 1)
    async with asyncio.timeout(5):
        await served.host.drain(0.1, lambda: False)
    assert served.host.inside == 1
    running.cancel()


async def test_an_engine_that_loads_is_alive_and_not_ready() -> None:
    loading = asyncio.Event()

    async def load(_observer: object) -> Loaded:
        await loading.wait()
        raise AssertionError("nobody waits for this")

    app = create_engine_app(load, token=None)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://engine") as http:
            paths = ["/livez", "/metrics", "/readyz", "/v1/models"]
            assert [(await http.get(path)).status_code for path in paths] == [200, 200, 503, 503]
            assert (await http.post("/v1/candidates", json=SLOW)).json()["code"] == "unavailable"


async def test_an_engine_that_cannot_be_loaded_gives_up_with_its_reason() -> None:
    gave_up = asyncio.Event()

    async def load(_observer: object) -> Loaded:
        raise ArtifactIncompatible("made for another model")

    app = create_engine_app(load, token=None, give_up=gave_up.set)
    async with app.router.lifespan_context(app):
        await gave_up.wait()
    assert isinstance(app.state.host.error, ArtifactIncompatible)
