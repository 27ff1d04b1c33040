"""Long work and its client: stops when the client leaves, and streams server-sent events."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect

from app.errors import AttuneError

PATIENCE_SECONDS = 0.5
PING_SECONDS = 2.0
WORD = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+")

T = TypeVar("T")


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work``; a client that leaves cancels it, and ``ClientDisconnect`` is raised."""
    task, watcher = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        await _cancel(task, watcher)


async def stream_events(
    work: Coroutine[Any, Any, T], render: Callable[[T], Iterable[bytes]], fail: Callable[[AttuneError], bytes]
) -> EventSourceResponse:
    """Stream what ``render`` makes of the result of ``work``, with pings while it is not there yet.

    An error that comes quickly is raised, so that it keeps its status; a later one becomes the event that ``fail``
    makes of it.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if done:
            task.result()
    except BaseException:
        await _cancel(task)
        raise
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return EventSourceResponse(_events(task, render, fail), headers=headers)


def event(data: object, name: str | None = None) -> bytes:
    """One event with JSON data."""
    return format_sse_event(data_str=json.dumps(data, ensure_ascii=False, allow_nan=False), event=name)


def words(text: str) -> Iterator[str]:
    """The text in pieces of about a word, which joined give the text again."""
    return (match.group() for match in WORD.finditer(text))


async def _events(
    task: asyncio.Task[T], render: Callable[[T], Iterable[bytes]], fail: Callable[[AttuneError], bytes]
) -> AsyncIterator[bytes]:
    try:
        while not task.done():
            yield KEEPALIVE_COMMENT
            await asyncio.wait({task}, timeout=PING_SECONDS)
        for chunk in render(task.result()):
            yield chunk
    except AttuneError as error:
        yield fail(error)
    finally:
        await _cancel(task)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what is still running, and wait until it has cleaned up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
