"""What every engine promises through ``ports.Decoder``: the scripted and the real one, here and over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.entities import CandidateSet, Conversation, Message, SamplingOptions
from app.errors import EngineOverloaded, EngineTimeout, PromptTooLong
from app.generation.scripted import ScriptedEngine
from app.generation.transformers_engine import TransformersEngine
from app.generation.upstream.openai_engine import OpenAIEngine
from app.rewards.artifact import BasisArtifact
from tests.fakes.remote import RemotelyServed, until
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.anyio

Engine = ScriptedEngine | TransformersEngine | OpenAIEngine | RemotelyServed
KINDS = ["scripted", "transformers", "openai", "remote scripted", "remote transformers"]
OPTIONS = SamplingOptions(max_tokens=20, temperature=1.0, top_p=0.9, seed=5)
LONG = replace(OPTIONS, max_tokens=60, seed=77)
QUESTION: Conversation = (Message("user", "What should I cook tonight?"),)


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as upstream:
        upstream.token_seconds = 0.0005
        yield upstream


def _build(kind: str, checkpoint: Path, basis: BasisArtifact, upstream: FakeUpstream, timeout_seconds: float) -> Engine:
    if kind.startswith("remote "):
        inner = _build(kind.removeprefix("remote "), checkpoint, basis, upstream, timeout_seconds)
        size = inner.size if isinstance(inner, ScriptedEngine) else len(basis.basis.axes)
        return RemotelyServed(inner, size, timeout_seconds=timeout_seconds)
    if kind == "openai":
        return OpenAIEngine(
            checkpoint, basis, upstream_url=upstream.url, queue_size=1, max_rows=32, timeout_seconds=timeout_seconds
        )
    if kind == "scripted":
        return ScriptedEngine(context=256, queue_size=1, timeout_seconds=timeout_seconds, latency_seconds=0.01)
    return TransformersEngine(checkpoint, basis, threads=1, queue_size=1, max_rows=32, timeout_seconds=timeout_seconds)


@pytest.fixture(params=KINDS)
async def engine(
    request: pytest.FixtureRequest, checkpoint: Path, basis: BasisArtifact, upstream: FakeUpstream
) -> AsyncIterator[Engine]:
    engine = _build(request.param, checkpoint, basis, upstream, timeout_seconds=10)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(params=KINDS)
async def hasty_engine(
    request: pytest.FixtureRequest, checkpoint: Path, basis: BasisArtifact, upstream: FakeUpstream
) -> AsyncIterator[Engine]:
    engine = _build(request.param, checkpoint, basis, upstream, timeout_seconds=0.002)
    await engine.start()
    yield engine
    await engine.close()


def _worker(engine: Engine) -> Any:
    """The engine that does the work, in this process in any case."""
    return engine.inner if isinstance(engine, RemotelyServed) else engine


async def _asked(engine: Engine, calls: int) -> list["asyncio.Task[object]"]:
    """Slow calls that have reached the engine."""
    if isinstance(_worker(engine), ScriptedEngine):
        _worker(engine).latency_seconds = 0.3
    tasks: list[asyncio.Task[object]] = [
        asyncio.create_task(engine.candidates(QUESTION, 32, replace(LONG, seed=seed))) for seed in range(calls)
    ]
    await asyncio.sleep(0)
    await until(lambda: _worker(engine).requests >= calls)
    return tasks


async def _texts(engine: Engine, n: int, options: SamplingOptions = OPTIONS) -> list[str]:
    return [one.text for one in (await engine.candidates(QUESTION, n, options)).candidates]


async def test_a_started_engine_is_ready(engine: Engine) -> None:
    assert await engine.ready()


async def test_as_many_candidates_come_as_were_asked_for(engine: Engine) -> None:
    assert len(await _texts(engine, 5)) == 5


async def test_the_same_seed_gives_the_same_texts(engine: Engine) -> None:
    first = await _texts(engine, 4)
    await engine.candidates(QUESTION, 4, replace(OPTIONS, seed=6))
    assert await _texts(engine, 4) == first


async def test_another_seed_gives_other_texts(engine: Engine) -> None:
    assert await _texts(engine, 4) != await _texts(engine, 4, replace(OPTIONS, seed=6))


async def test_the_first_of_many_is_the_only_one_of_one(engine: Engine) -> None:
    (only,) = await _texts(engine, 1)
    assert (await _texts(engine, 9))[0] == only


async def test_another_prompt_gives_other_texts(engine: Engine) -> None:
    other = await engine.candidates((Message("user", "Hi"),), 4, OPTIONS)
    assert [one.text for one in other.candidates] != await _texts(engine, 4)


async def test_no_candidate_has_more_tokens_than_allowed(engine: Engine) -> None:
    drawn = await engine.candidates(QUESTION, 8, replace(OPTIONS, max_tokens=3))
    assert max(one.tokens for one in drawn.candidates) == 3


async def test_no_text_contains_a_stop_string(engine: Engine) -> None:
    stop = (await _texts(engine, 1))[0][3:5]
    assert not any(stop in text for text in await _texts(engine, 8, replace(OPTIONS, stop=(stop,))))


async def test_a_text_with_a_stop_string_finishes_by_it(engine: Engine) -> None:
    stop = (await _texts(engine, 1))[0][3:5]
    drawn = await engine.candidates(QUESTION, 1, replace(OPTIONS, stop=(stop,)))
    assert drawn.candidates[0].finish_reason == "stop"


async def test_at_temperature_zero_the_seed_does_not_matter(engine: Engine) -> None:
    greedy = replace(OPTIONS, temperature=0.0)
    assert await _texts(engine, 1, greedy) == await _texts(engine, 1, replace(greedy, seed=9))


async def test_completion_tokens_are_the_sum_over_the_candidates(engine: Engine) -> None:
    drawn = await engine.candidates(QUESTION, 6, OPTIONS)
    assert drawn.completion_tokens == sum(one.tokens for one in drawn.candidates)


async def test_rewards_of_a_candidate_are_those_of_its_text(engine: Engine) -> None:
    drawn = await engine.candidates(QUESTION, 8, OPTIONS)
    scored = await engine.basis_rewards(QUESTION, [one.text for one in drawn.candidates])
    found = np.stack([one.basis_rewards for one in drawn.candidates])
    np.testing.assert_allclose(found, scored, atol=1e-4)  # fp32 rounding through three layers


async def test_rewards_have_one_row_a_response(engine: Engine) -> None:
    size = (await engine.candidates(QUESTION, 1, OPTIONS)).candidates[0].basis_rewards.shape[0]
    assert (await engine.basis_rewards(QUESTION, ["Soup.", "Rice."])).shape == (2, size)


async def test_no_responses_have_no_rewards(engine: Engine) -> None:
    assert len(await engine.basis_rewards(QUESTION, [])) == 0


async def test_a_prompt_that_leaves_no_room_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        await engine.candidates((Message("user", "word " * 250),), 1, OPTIONS)


async def test_a_response_that_exceeds_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(PromptTooLong):
        await engine.basis_rewards(QUESTION, ["word " * 256])


async def test_a_full_queue_refuses_the_next_call(engine: Engine) -> None:
    tasks = await _asked(engine, 2)
    with pytest.raises(EngineOverloaded):
        await engine.candidates(QUESTION, 32, LONG)
    await asyncio.gather(*tasks)


async def test_cancelling_waiting_calls_frees_their_places(engine: Engine) -> None:
    tasks = await _asked(engine, 2)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    await until(lambda: _worker(engine).queue_length == 0)  # over a socket the engine learns of it a little later
    assert len((await engine.candidates(QUESTION, 1, OPTIONS)).candidates) == 1
    await tasks[0]


async def test_a_caller_that_leaves_frees_every_row(engine: Engine) -> None:
    (task,) = await _asked(engine, 1)
    await until(lambda: _worker(engine).rows > 0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: _worker(engine).rows == _worker(engine).queue_length == 0)


async def test_the_pieces_of_a_stream_are_the_text_of_the_first_candidate(engine: Engine) -> None:
    *pieces, drawn = [item async for item in engine.stream(QUESTION, LONG)]
    (text,) = await _texts(engine, 1, LONG)
    assert len(pieces) > 1
    assert "".join(str(piece) for piece in pieces) == text
    assert isinstance(drawn, CandidateSet)
    assert drawn.candidates[0].text == text


async def test_closing_a_stream_frees_its_row(engine: Engine) -> None:
    stream = engine.stream(QUESTION, LONG)
    await anext(stream)
    await stream.aclose()
    await until(lambda: _worker(engine).rows == _worker(engine).queue_length == 0)


async def test_counters_grow_with_what_was_generated(engine: Engine) -> None:
    before = engine.requests, engine.tokens_generated, engine.seconds_decoding
    drawn = await engine.candidates(QUESTION, 2, replace(OPTIONS, seed=1234))
    assert engine.requests == before[0] + 1
    assert engine.tokens_generated == before[1] + drawn.completion_tokens
    assert engine.seconds_decoding > before[2]


async def test_a_call_past_its_deadline_is_a_timeout(hasty_engine: Engine) -> None:
    with pytest.raises(EngineTimeout):
        await hasty_engine.candidates(QUESTION, 16, LONG)
