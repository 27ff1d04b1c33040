"""Long work and its client: stops when the client leaves, and streams server-sent events."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator
from typing import Any, Generic, TypeVar

from fastapi import Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.errors import AttuneError

PATIENCE_SECONDS = 0.5
PING_SECONDS = 2.0
LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""What some readers take for the end of a line, and JSON leaves as it is."""
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
    """Stream what ``render`` makes of the result of ``work``, as ``stream_items`` does of several items."""

    async def only() -> AsyncGenerator[T, None]:
        yield await work

    return await stream_items(only(), render, fail)


async def stream_items(
    items: AsyncGenerator[T, None], render: Callable[[T], Iterable[bytes]], fail: Callable[[AttuneError], bytes]
) -> EventSourceResponse:
    """Stream what ``render`` makes of each item as it comes, with pings while none does.

    An error that comes quickly and before any item is raised, so that it keeps its status; a later one becomes the
    event that ``fail`` makes of it. However the stream ends, ``items`` is closed.
    """
    ahead = _Ahead(items)
    try:
        await ahead.begin()
    except BaseException:
        await ahead.close()
        raise
    return _ItemStream(ahead, render, fail)


def event(data: object, name: str | None = None) -> bytes:
    """One event with JSON data, on one line whatever characters its texts hold."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False).translate(LINE_ENDS)
    return format_sse_event(data_str=text, event=name)


def words(text: str) -> Iterator[str]:
    """The text in pieces of about a word, which joined give the text again."""
    return (match.group() for match in WORD.finditer(text))


class _Ahead(Generic[T]):
    """Waits for the next item in a task, so that the wait can be interrupted without losing the item."""

    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items
        self._task = asyncio.create_task(self._following())

    async def begin(self) -> None:
        """Wait a little for the first item; raises the error that comes instead."""
        if await self.wait(PATIENCE_SECONDS):
            self._task.result()

    async def wait(self, seconds: float) -> bool:
        """Whether the next item, the end or an error is there, within ``seconds``."""
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        return bool(done)

    def take(self) -> T | None:
        """The item that is there, None at the end; raises the error that came instead."""
        item = self._task.result()
        if item is not None:
            self._task = asyncio.create_task(self._following())
        return item

    async def close(self) -> None:
        """Stop waiting, and close the items."""
        await _cancel(self._task)
        await self._items.aclose()

    async def _following(self) -> T | None:
        return await anext(self._items, None)


class _ItemStream(EventSourceResponse):
    """Closes its items also when its client left before the first byte."""

    def __init__(
        self, ahead: _Ahead[T], render: Callable[[T], Iterable[bytes]], fail: Callable[[AttuneError], bytes]
    ) -> None:
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(_events(ahead, render, fail), headers=headers)
        self._close = ahead.close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._close()


async def _events(
    ahead: _Ahead[T], render: Callable[[T], Iterable[bytes]], fail: Callable[[AttuneError], bytes]
) -> AsyncGenerator[bytes, None]:
    try:
        while True:
            while not await ahead.wait(PING_SECONDS):
                yield KEEPALIVE_COMMENT
            item = ahead.take()
            if item is None:
                return
            for chunk in render(item):
                yield chunk
    except AttuneError as error:
        yield fail(error)
    finally:
        await ahead.close()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what is still running, and wait until it has cleaned up."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
