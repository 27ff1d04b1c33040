import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from app.entities import Caller, CandidateSet, Message, SamplingOptions, Steering
from app.errors import EngineTimeout, GuidanceUnavailable, InvalidInput, Unavailable
from app.generation.scripted import ScriptedEngine

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=60, temperature=1.0, top_p=0.9, seed=5)
QUESTION = (Message("user", "What should I cook tonight?"),)
TASTE = (1.0, -0.5, 0.25, 0.0)


async def reward(steering: Steering | None, taste: Sequence[float] = TASTE) -> float:
    """Mean reward under ``taste`` of 64 candidates."""
    drawn = await ScriptedEngine().candidates(QUESTION, 64, OPTIONS, steering=steering)
    return float(np.mean([one.basis_rewards @ np.array(taste) for one in drawn.candidates]))


def told(drawn: CandidateSet) -> list[tuple[str, str, list[float]]]:
    return [(one.text, one.finish_reason, one.basis_rewards.tolist()) for one in drawn.candidates]


@pytest.mark.parametrize("guidance", ["token", "block"])
async def test_guidance_raises_the_reward_that_it_follows(guidance: str) -> None:
    assert await reward(Steering(TASTE, guidance)) > await reward(None) + 0.3  # type: ignore[arg-type]


async def test_more_strength_means_more_reward() -> None:
    rewards = [await reward(Steering(TASTE, "token", strength)) for strength in (0.5, 2.0, 8.0)]
    assert rewards == sorted(rewards)


@pytest.mark.parametrize("guidance", ["none", "token", "block"])
async def test_strength_zero_is_plain_sampling(guidance: str) -> None:
    engine = ScriptedEngine()
    plain = await engine.candidates(QUESTION, 8, OPTIONS)
    steered = await engine.candidates(QUESTION, 8, OPTIONS, steering=Steering(TASTE, guidance, strength=0.0))  # type: ignore[arg-type]
    assert told(steered) == told(plain)


@pytest.mark.parametrize("guidance", ["token", "block"])
async def test_a_steered_candidate_does_not_depend_on_how_many_there_are(guidance: str) -> None:
    engine, steering = ScriptedEngine(), Steering(TASTE, guidance)  # type: ignore[arg-type]
    many = await engine.candidates(QUESTION, 9, OPTIONS, steering=steering)
    one = await engine.candidates(QUESTION, 1, OPTIONS, steering=steering)
    assert told(one) == told(many)[:1]


async def test_blocks_that_were_not_taken_count_as_discarded() -> None:
    steering = Steering(TASTE, "block", continuations=3)
    drawn = await ScriptedEngine().candidates(QUESTION, 2, OPTIONS, steering=steering)
    kept = sum(one.tokens for one in drawn.candidates)
    assert (drawn.completion_tokens, drawn.discarded_tokens) == (3 * kept, 2 * kept)


async def test_early_stopping_drops_candidates_but_not_the_best() -> None:
    engine = ScriptedEngine()
    plain = await engine.candidates(QUESTION, 16, OPTIONS)
    kept = await engine.candidates(QUESTION, 16, OPTIONS, steering=Steering(TASTE, drop_below=0.05))
    best = max(plain.candidates, key=lambda one: float(one.basis_rewards @ np.array(TASTE)))
    assert any(one.finish_reason == "dropped" for one in kept.candidates)
    assert best.text in {one.text for one in kept.candidates if one.finish_reason != "dropped"}
    assert kept.completion_tokens < plain.completion_tokens


async def test_tokens_of_dropped_candidates_are_discarded_ones() -> None:
    drawn = await ScriptedEngine().candidates(QUESTION, 16, OPTIONS, steering=Steering(TASTE, drop_below=0.05))
    dropped = sum(one.tokens for one in drawn.candidates if one.finish_reason == "dropped")
    assert drawn.discarded_tokens == dropped > 0
    assert drawn.completion_tokens == sum(one.tokens for one in drawn.candidates)


async def test_a_kind_that_the_engine_was_told_not_to_do_is_refused() -> None:
    engine = ScriptedEngine(steering=frozenset({"block"}))
    with pytest.raises(GuidanceUnavailable, match="token"):
        await engine.candidates(QUESTION, 1, OPTIONS, steering=Steering(TASTE, "token"))


@pytest.mark.parametrize("coefficients", [(1.0,), (1.0, float("nan"), 0.0, 0.0)])
async def test_coefficients_that_do_not_fit_are_refused(coefficients: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match="send 4 finite ones"):
        await ScriptedEngine().candidates(QUESTION, 1, OPTIONS, steering=Steering(coefficients))


@pytest.mark.parametrize("guidance", ["none", "token", "block"])
async def test_a_stream_brings_the_pieces_of_what_would_come_at_once(guidance: str) -> None:
    engine, steering = ScriptedEngine(), Steering(TASTE, guidance)  # type: ignore[arg-type]
    whole = await engine.candidates(QUESTION, 1, OPTIONS, steering=steering)
    *pieces, last = [item async for item in engine.stream(QUESTION, OPTIONS, steering=steering)]
    assert isinstance(last, CandidateSet)
    assert told(last) == told(whole)
    assert "".join(str(piece) for piece in pieces) == whole.candidates[0].text


async def test_closing_a_stream_ends_its_decoding_and_frees_its_place() -> None:
    engine = ScriptedEngine()
    stream = engine.stream(QUESTION, OPTIONS)
    await anext(stream)
    await stream.aclose()
    assert (engine.rows, engine.tokens_generated) == (0, 1)


async def test_the_shorter_of_both_deadlines_holds() -> None:
    engine = ScriptedEngine(token_seconds=0.05)
    with pytest.raises(EngineTimeout, match=r"0\.01 s"):
        await engine.candidates(QUESTION, 1, OPTIONS, caller=Caller("ada", timeout_seconds=0.01))


async def test_a_tenant_with_many_calls_does_not_make_another_wait_for_all_of_them() -> None:
    engine, order = ScriptedEngine(latency_seconds=0.001), []

    async def call(tenant: str, number: int) -> None:
        await engine.candidates(QUESTION, 1, replace(OPTIONS, seed=number), caller=Caller(tenant))
        order.append(tenant)

    calls = [asyncio.create_task(call("busy", number)) for number in range(6)]
    await asyncio.sleep(0)
    await asyncio.gather(*calls, asyncio.create_task(call("other", 9)))
    assert order.index("other") <= 2


async def test_the_same_share_of_calls_fails_every_time() -> None:
    async def failing(engine: ScriptedEngine) -> list[int]:
        failed = []
        for number in range(100):
            try:
                await engine.basis_rewards(QUESTION, ["soup"])
            except Unavailable:
                failed.append(number)
        return failed

    first, second = await failing(ScriptedEngine(failures=0.2)), await failing(ScriptedEngine(failures=0.2))
    assert first == second
    assert 10 <= len(first) <= 30
