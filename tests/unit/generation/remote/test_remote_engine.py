"""The client of an engine's process, against a real engine application or a scripted peer on a real socket."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest

from app.entities import Caller, CandidateSet, Message, SamplingOptions, Steering
from app.errors import (
    ArtifactIncompatible,
    ConfigurationError,
    EngineTimeout,
    EngineUnreachable,
    InvalidInput,
    NonFiniteReward,
    Unavailable,
)
from app.generation.remote.remote_engine import RemoteEngine
from app.generation.scripted import ScriptedEngine
from tests.fakes.remote import RemotelyServed, until

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=40, temperature=1.0, top_p=0.9, seed=5)
QUESTION = (Message("user", "What should I cook tonight?"),)
TASTE = (1.0, -0.5, 0.25, 0.0)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def remote(anyio_backend: str) -> AsyncIterator[RemotelyServed]:
    remote = RemotelyServed(ScriptedEngine(queue_size=4, max_rows=16, timeout_seconds=20), 4, timeout_seconds=20)
    await remote.start()
    yield remote
    await remote.close()


def same(first: CandidateSet, second: CandidateSet) -> bool:
    rewards = [[one.basis_rewards.tobytes() for one in drawn.candidates] for drawn in (first, second)]
    texts = [[(one.text, one.tokens, one.finish_reason) for one in drawn.candidates] for drawn in (first, second)]
    usage = [replace(drawn, candidates=()) for drawn in (first, second)]
    return rewards[0] == rewards[1] and texts[0] == texts[1] and usage[0] == usage[1]


@pytest.mark.parametrize("guidance", ["none", "token", "block"])
async def test_steered_candidates_are_those_of_the_engine_itself(remote: RemotelyServed, guidance: str) -> None:
    steering = Steering(TASTE, guidance, strength=0.7, drop_below=0.05)  # type: ignore[arg-type]
    here = await remote.inner.candidates(QUESTION, 6, OPTIONS, steering=steering)
    assert same(here, await remote.candidates(QUESTION, 6, OPTIONS, steering=steering))


async def test_rewards_of_given_texts_are_those_of_the_engine_itself(remote: RemotelyServed) -> None:
    texts = ["Soup.", "Rice\u2028and \u00e9ggs", ""]
    here, there = await remote.inner.basis_rewards(QUESTION, texts), await remote.basis_rewards(QUESTION, texts)
    np.testing.assert_array_equal(here, there)


async def test_a_stream_s_pieces_are_the_text_and_its_end_the_set_of_one(remote: RemotelyServed) -> None:
    steering = Steering(TASTE, "token")
    items = [item async for item in remote.stream(QUESTION, OPTIONS, steering=steering)]
    drawn = await remote.inner.candidates(QUESTION, 1, OPTIONS, steering=steering)
    assert "".join(str(piece) for piece in items[:-1]) == drawn.candidates[0].text
    assert isinstance(items[-1], CandidateSet)
    assert same(items[-1], drawn)


async def test_closing_a_stream_stops_the_engine(remote: RemotelyServed) -> None:
    remote.inner.token_seconds = 0.1
    stream = remote.stream(QUESTION, OPTIONS)
    await anext(stream)
    await stream.aclose()
    await until(lambda: remote.idle, seconds=2)
    assert remote.queue_length == remote.rows == 0


async def test_cancelling_a_best_of_n_stops_the_engine(remote: RemotelyServed) -> None:
    remote.inner.latency_seconds = 15
    task = asyncio.create_task(remote.candidates(QUESTION, 16, OPTIONS))
    await until(lambda: remote.inner.rows == 16)
    task.cancel()
    await until(lambda: remote.idle, seconds=2)
    assert remote.queue_length == remote.rows == 0


async def test_the_deadline_of_a_caller_stops_the_engine(remote: RemotelyServed) -> None:
    remote.inner.latency_seconds = 15
    with pytest.raises(EngineTimeout):
        await remote.candidates(QUESTION, 2, OPTIONS, caller=Caller(timeout_seconds=0.1))
    await until(lambda: remote.idle, seconds=2)


async def test_the_deadline_holds_for_a_whole_stream(remote: RemotelyServed) -> None:
    remote.inner.token_seconds = 0.06
    with pytest.raises(EngineTimeout):
        async for _ in remote.stream(QUESTION, OPTIONS, caller=Caller(timeout_seconds=0.2)):
            pass
    await until(lambda: remote.idle, seconds=2)


async def test_an_error_there_is_the_same_error_here(remote: RemotelyServed) -> None:
    remote.inner.fail_next(NonFiniteReward("as scripted"))
    with pytest.raises(NonFiniteReward, match="as scripted"):
        await remote.candidates(QUESTION, 1, OPTIONS)


async def test_an_error_amid_a_stream_is_the_same_error_here(remote: RemotelyServed) -> None:
    remote.inner.token_seconds, remote.inner.timeout_seconds = 0.2, 0.7
    with pytest.raises(EngineTimeout):
        async for _ in remote.stream(QUESTION, OPTIONS):
            pass


async def test_texts_that_no_request_can_hold_are_invalid_input(remote: RemotelyServed) -> None:
    with pytest.raises(InvalidInput, match="surrogates"):
        await remote.basis_rewards(QUESTION, ["\ud800"])


async def test_forgetting_reaches_the_engine(remote: RemotelyServed) -> None:
    forgotten = asyncio.Event()

    async def forget() -> None:
        forgotten.set()

    remote.inner.forget = forget
    await remote.forget()
    assert forgotten.is_set()


async def test_an_engine_with_another_basis_is_refused_at_the_start(remote: RemotelyServed) -> None:
    client = RemoteEngine(remote.server.url, "another")
    with pytest.raises(ArtifactIncompatible, match=r"scripted.*another.*ATTUNE_ENGINE__BASIS"):
        await client.start()
    await client.close()


async def test_an_engine_that_was_replaced_by_one_with_another_basis_is_not_listened_to(remote: RemotelyServed) -> None:
    remote.inner.basis_version = "newer"
    with pytest.raises(EngineUnreachable, match="newer"):
        await remote.candidates(QUESTION, 1, OPTIONS)
    assert not await remote.ready()


async def test_an_engine_with_another_basis_is_not_put_to_work(remote: RemotelyServed) -> None:
    remote.inner.basis_version = "newer"
    steering = Steering(TASTE, "token")
    with pytest.raises(EngineUnreachable, match="newer"):
        [item async for item in remote.stream(QUESTION, OPTIONS, steering=steering)]
    with pytest.raises(EngineUnreachable, match="newer"):
        await remote.basis_rewards(QUESTION, ["Soup."])
    assert remote.inner.requests == 0


async def test_what_an_engine_learned_to_do_is_known_after_the_next_look(remote: RemotelyServed) -> None:
    remote.inner.steering = frozenset({"block"})
    assert await remote.ready()
    assert remote.steering == {"block"}


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_deadline_that_has_passed_is_a_timeout_without_work(remote: RemotelyServed, seconds: float) -> None:
    with pytest.raises(EngineTimeout):
        await remote.candidates(QUESTION, 1, OPTIONS, caller=Caller(timeout_seconds=seconds))
    assert remote.inner.requests == 0


async def test_a_token_that_is_refused_later_is_named_as_the_reason(remote: RemotelyServed) -> None:
    served = RemotelyServed(ScriptedEngine(), 4, token="0123456789abcdef")
    await served.start()
    client = RemoteEngine(served.server.url, "scripted", token="another-token-0123")
    client._model = remote._model
    with pytest.raises(EngineUnreachable, match="ATTUNE_ENGINE__TOKEN"):
        await client.candidates(QUESTION, 1, OPTIONS)
    await client.close()
    await served.close()


async def test_callers_are_not_told_where_the_engine_is(remote: RemotelyServed) -> None:
    await remote.server.close()
    with pytest.raises(EngineUnreachable) as caught:
        await remote.candidates(QUESTION, 1, OPTIONS)
    assert "127.0.0.1" not in caught.value.message


async def test_an_engine_that_is_not_there_is_unreachable_once_patience_ends() -> None:
    client = RemoteEngine("http://127.0.0.1:9", "scripted", start_seconds=0.1)
    with pytest.raises(EngineUnreachable, match="ATTUNE_ENGINE_URL"):
        await client.start()
    assert not await client.ready()
    await client.close()


async def test_nothing_is_asked_of_an_engine_that_was_not_found() -> None:
    client = RemoteEngine("http://127.0.0.1:9", "scripted")
    with pytest.raises(Unavailable):
        await client.candidates(QUESTION, 1, OPTIONS)
    await client.close()


async def test_a_wrong_token_stops_the_start_and_names_the_setting(anyio_backend: str) -> None:
    served = RemotelyServed(ScriptedEngine(), 4, token="0123456789abcdef")
    await served.start()
    client = RemoteEngine(served.server.url, "scripted", token="another-token-0123")
    with pytest.raises(ConfigurationError, match="ATTUNE_ENGINE__TOKEN") as caught:
        await client.start()
    assert "another-token" not in caught.value.message
    await client.close()
    await served.close()


class Peer:
    """Passes connections on to a real engine, but the first ``broken`` of them, after ``start``, are cut."""

    def __init__(self, port: int, broken: int, after: bytes) -> None:
        self.port, self.broken, self.after = port, broken, after
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.connections <= self.broken:
            await reader.read(1)
            writer.write(self.after)
            await writer.drain()
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer), return_exceptions=True)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def through(peer: Peer, remote: RemotelyServed, ask: Callable[[RemoteEngine], Awaitable[object]]) -> object:
    """What ``ask`` gets through ``peer``, from a client that has found its engine already."""
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    client = RemoteEngine(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "scripted")
    client._model = remote._model
    try:
        return await ask(client)
    finally:
        await client.close()
        server.close()


def port_of(remote: RemotelyServed) -> int:
    return int(remote.server.url.rpartition(":")[2])


async def test_a_request_whose_connection_breaks_before_the_answer_is_sent_once_more(remote: RemotelyServed) -> None:
    drawn = await through(Peer(port_of(remote), 1, b""), remote, lambda it: it.candidates(QUESTION, 2, OPTIONS))
    assert isinstance(drawn, CandidateSet)
    assert same(drawn, await remote.inner.candidates(QUESTION, 2, OPTIONS))


async def test_a_request_is_sent_no_more_than_twice(remote: RemotelyServed) -> None:
    peer = Peer(port_of(remote), 9, b"")
    with pytest.raises(EngineUnreachable):
        await through(peer, remote, lambda it: it.candidates(QUESTION, 2, OPTIONS))
    assert peer.connections == 2


async def test_a_request_is_not_sent_again_once_the_answer_has_begun(remote: RemotelyServed) -> None:
    peer = Peer(port_of(remote), 1, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    with pytest.raises(EngineUnreachable):
        await through(peer, remote, lambda it: it.candidates(QUESTION, 2, OPTIONS))
    assert peer.connections == 1


async def test_a_stream_that_ends_without_its_result_is_trouble_on_the_way(remote: RemotelyServed) -> None:
    begun = b'event: delta\ndata: {"text": "a"}\n\n'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(begun)}\r\n\r\n".encode()

    async def pieces(client: RemoteEngine) -> list[object]:
        return [item async for item in client.stream(QUESTION, OPTIONS)]

    with pytest.raises(EngineUnreachable):
        await through(Peer(port_of(remote), 1, head + begun), remote, pieces)


USAGE = b'"usage": {"prompt_tokens": 1, "completion_tokens": 1, "discarded_tokens": 0, "reused_tokens": 0}'
NONE = b'{"basis_version": "scripted", "seed": 5, "candidates": [], ' + USAGE + b"}"
SHORT = NONE.replace(
    b"[]", b'[{"index": 0, "text": "a", "tokens": 1, "finish_reason": "stop", "basis_rewards": [0.5]}]'
)


@pytest.mark.parametrize("answer", [b"", b"not json", b"{}", b'{"candidates": []}', NONE, SHORT])
async def test_an_answer_that_makes_no_sense_is_trouble_on_the_way(remote: RemotelyServed, answer: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
    with pytest.raises(EngineUnreachable):
        await through(Peer(port_of(remote), 1, head + answer), remote, lambda it: it.candidates(QUESTION, 1, OPTIONS))


@pytest.mark.parametrize("rows", [b"[]", b"[[0.5]]", b"[[1, 2, 3, 4], [1, 2, 3, 4]]"])
async def test_rewards_of_another_shape_are_trouble_on_the_way(remote: RemotelyServed, rows: bytes) -> None:
    answer = b'{"basis_version": "scripted", "basis_rewards": ' + rows + b"}"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n".encode()
    with pytest.raises(EngineUnreachable):
        await through(Peer(port_of(remote), 1, head + answer), remote, lambda it: it.basis_rewards(QUESTION, ["a"]))


async def test_an_answer_that_cannot_be_unpacked_is_trouble_on_the_way(remote: RemotelyServed) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
    with pytest.raises(EngineUnreachable):
        await through(Peer(port_of(remote), 1, head + b"junk"), remote, lambda it: it.candidates(QUESTION, 1, OPTIONS))


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, app.generation.remote.remote_engine; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
