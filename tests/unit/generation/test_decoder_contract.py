"""What every engine promises through ``ports.Decoder``, run against the scripted engine and the real one."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.entities import Conversation, Message, SamplingOptions
from app.errors import EngineOverloaded, EngineTimeout, PromptTooLong
from app.generation.scripted import ScriptedEngine
from app.generation.transformers_engine import TransformersEngine
from app.rewards.artifact import BasisArtifact

pytestmark = pytest.mark.anyio

Engine = ScriptedEngine | TransformersEngine
OPTIONS = SamplingOptions(max_tokens=20, temperature=1.0, top_p=0.9, seed=5)
LONG = replace(OPTIONS, max_tokens=60, seed=77)
QUESTION: Conversation = (Message("user", "What should I cook tonight?"),)


def _build(kind: str, checkpoint: Path, basis: BasisArtifact, timeout_seconds: float) -> Engine:
    if kind == "scripted":
        return ScriptedEngine(context=256, queue_size=1, timeout_seconds=timeout_seconds, latency_seconds=0.01)
    return TransformersEngine(checkpoint, basis, threads=1, queue_size=1, timeout_seconds=timeout_seconds)


@pytest.fixture(params=["scripted", "transformers"])
async def engine(request: pytest.FixtureRequest, checkpoint: Path, basis: BasisArtifact) -> AsyncIterator[Engine]:
    engine = _build(request.param, checkpoint, basis, timeout_seconds=10)
    await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(params=["scripted", "transformers"])
async def hasty_engine(request: pytest.FixtureRequest, checkpoint: Path, basis: BasisArtifact) -> AsyncIterator[Engine]:
    engine = _build(request.param, checkpoint, basis, timeout_seconds=0.002)
    await engine.start()
    yield engine
    await engine.close()


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
    tasks = [asyncio.create_task(engine.candidates(QUESTION, 32, replace(LONG, seed=i))) for i in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(EngineOverloaded):
        await engine.candidates(QUESTION, 32, LONG)
    await asyncio.gather(*tasks)


async def test_cancelling_waiting_calls_frees_their_places(engine: Engine) -> None:
    tasks = [asyncio.create_task(engine.candidates(QUESTION, 32, replace(LONG, seed=i))) for i in range(2)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    assert len((await engine.candidates(QUESTION, 1, OPTIONS)).candidates) == 1
    await tasks[0]


async def test_counters_grow_with_what_was_generated(engine: Engine) -> None:
    before = engine.requests, engine.tokens_generated, engine.seconds_decoding
    drawn = await engine.candidates(QUESTION, 2, replace(OPTIONS, seed=1234))
    assert engine.requests == before[0] + 1
    assert engine.tokens_generated == before[1] + drawn.completion_tokens
    assert engine.seconds_decoding > before[2]


async def test_a_call_past_its_deadline_is_a_timeout(hasty_engine: Engine) -> None:
    with pytest.raises(EngineTimeout):
        await hasty_engine.candidates(QUESTION, 16, LONG)
