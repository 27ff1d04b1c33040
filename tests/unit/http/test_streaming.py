import asyncio
import json
from collections.abc import AsyncGenerator

import pytest

from app.errors import AttuneError, EngineTimeout
from app.http import streaming
from app.http.streaming import event, stream_events, stream_items, words

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "PING_SECONDS", 0.01)


def told(error: AttuneError) -> bytes:
    return error.code.encode()


@pytest.mark.parametrize("text", ["", " ", "one", " two  words ", "a\n\n- b\n- c\n", "tab\tand\u2003space"])
async def test_the_words_of_a_text_joined_are_the_text(text: str) -> None:
    assert "".join(words(text)) == text


async def test_slow_work_is_pinged_until_it_is_done() -> None:
    async def work() -> str:
        await asyncio.sleep(0.1)
        return "done"

    stream = await stream_events(work(), lambda result: [result.encode()], told)
    chunks = [chunk async for chunk in stream.body_iterator]
    assert chunks[-1] == b"done"
    assert set(chunks[:-1]) == {b": ping\n\n"}
    assert len(chunks) > 2


async def test_an_error_at_once_is_raised_before_anything_is_sent() -> None:
    async def work() -> str:
        raise EngineTimeout(1)

    with pytest.raises(EngineTimeout):
        await stream_events(work(), lambda result: [result.encode()], told)


async def test_an_error_after_the_first_byte_is_an_event() -> None:
    async def work() -> str:
        await asyncio.sleep(0.05)
        raise EngineTimeout(1)

    stream = await stream_events(work(), lambda result: [result.encode()], told)
    assert [chunk async for chunk in stream.body_iterator][-1] == b"engine_timeout"


async def test_a_stream_nobody_reads_on_stops_the_work() -> None:
    stopped = asyncio.Event()

    async def work() -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return "never"

    stream = await stream_events(work(), lambda result: [result.encode()], told)
    reader = stream.body_iterator
    await anext(reader)
    await reader.aclose()  # type: ignore[attr-defined]
    assert stopped.is_set()


@pytest.mark.parametrize("character", ["\n", "\r", "\u2028", "\u2029", "\x85", "\x0b", "\x1e"])
async def test_no_character_of_a_text_ends_a_line_of_its_event(character: str) -> None:
    (line,) = event({"text": f"a{character}b"}).decode().rstrip("\n").splitlines()
    assert json.loads(line.removeprefix("data: ")) == {"text": f"a{character}b"}


async def test_items_are_sent_as_they_come() -> None:
    written = asyncio.Event()

    async def items() -> AsyncGenerator[str, None]:
        yield "first"
        await written.wait()
        yield "second"

    stream = await stream_items(items(), lambda item: [item.encode()], told)
    reader = stream.body_iterator
    assert await anext(reader) == b"first"
    written.set()
    assert [chunk async for chunk in reader][-1] == b"second"


async def test_slow_items_are_pinged_for() -> None:
    async def items() -> AsyncGenerator[str, None]:
        await asyncio.sleep(0.1)
        yield "late"

    stream = await stream_items(items(), lambda item: [item.encode()], told)
    chunks = [chunk async for chunk in stream.body_iterator]
    assert (chunks[-1], set(chunks[:-1])) == (b"late", {b": ping\n\n"})


async def test_an_error_before_the_first_item_is_raised_before_anything_is_sent() -> None:
    async def items() -> AsyncGenerator[str, None]:
        raise EngineTimeout(1)
        yield

    with pytest.raises(EngineTimeout):
        await stream_items(items(), lambda item: [item.encode()], told)


async def test_an_error_between_items_is_an_event() -> None:
    async def items() -> AsyncGenerator[str, None]:
        yield "first"
        raise EngineTimeout(1)

    stream = await stream_items(items(), lambda item: [item.encode()], told)
    assert [chunk async for chunk in stream.body_iterator] == [b"first", b"engine_timeout"]


async def test_an_empty_stream_of_items_ends() -> None:
    async def items() -> AsyncGenerator[str, None]:
        return
        yield

    stream = await stream_items(items(), lambda item: [item.encode()], told)
    assert [chunk async for chunk in stream.body_iterator] == []


async def test_items_nobody_reads_on_are_closed() -> None:
    closed = asyncio.Event()

    async def items() -> AsyncGenerator[str, None]:
        try:
            yield "first"
            await asyncio.sleep(30)
        finally:
            closed.set()

    stream = await stream_items(items(), lambda item: [item.encode()], told)
    reader = stream.body_iterator
    await anext(reader)
    await reader.aclose()  # type: ignore[attr-defined]
    assert closed.is_set()


async def test_items_are_closed_when_the_client_left_before_the_first_byte() -> None:
    closed = asyncio.Event()

    async def items() -> AsyncGenerator[str, None]:
        try:
            await asyncio.sleep(30)
            yield "never"
        finally:
            closed.set()

    async def gone(_message: object = None) -> dict[str, str]:
        return {"type": "http.disconnect"}

    stream = await stream_items(items(), lambda item: [item.encode()], told)
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
    await stream(scope, gone, gone)  # type: ignore[arg-type]
    assert closed.is_set()
