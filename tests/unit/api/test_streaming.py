import asyncio

import pytest

from app.api import streaming
from app.api.streaming import stream_events, words
from app.errors import AttuneError, EngineTimeout

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
