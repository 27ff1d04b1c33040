"""The torch engine with many callers at once: turns, cancellation, deadlines, streams and steering."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.entities import Caller, CandidateSet, Conversation, Message, SamplingOptions, Steering
from app.errors import EngineOverloaded, EngineTimeout, GuidanceUnavailable, InvalidInput, PromptTooLong, Unavailable
from app.generation import loaded_model
from app.generation.batch.drawing import Drawing
from app.generation.transformers_engine import TransformersEngine
from app.rewards.artifact import BasisArtifact
from tests.fakes.tiny_values import random_values

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=12, temperature=1.0, top_p=0.9, seed=5)
LONG = replace(OPTIONS, max_tokens=200, cacheable=False)
QUESTION: Conversation = (Message("user", "What should I cook tonight?"),)
STEERING = Steering((0.5, -0.5, 1.0), guidance="token")


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.tokens = self.discarded = self.reused = 0
        self.rewards: list[np.ndarray] = []

    def on_step(self, rows: int, tokens: int, seconds: float) -> None:
        self.rows.append(rows)
        self.tokens += tokens

    def on_discard(self, tokens: int) -> None:
        self.discarded += tokens

    def on_reuse(self, tokens: int) -> None:
        self.reused += tokens

    def on_reward(self, values: np.ndarray) -> None:
        self.rewards.append(values)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No text ends before its limit."""
    load = loaded_model.load_language_model

    def patched(*arguments: object, **options: object) -> object:
        model = load(*arguments, **options)  # type: ignore[arg-type]
        model.tokenizer.end_ids = ()
        return model

    monkeypatch.setattr(loaded_model, "load_language_model", patched)


Make = Callable[..., TransformersEngine]


@pytest.fixture
async def make(checkpoint: Path, basis: BasisArtifact, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Make]:
    made: list[TransformersEngine] = []
    monkeypatch.setattr(loaded_model, "check_values", lambda *_: None)

    def build(**options: object) -> TransformersEngine:
        made.append(TransformersEngine(checkpoint, basis, threads=1, device="cpu", **options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for engine in made:
        await engine.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (the engine's thread sets no event)
            await asyncio.sleep(0.001)


async def test_requests_that_come_together_are_decoded_together(make: Make) -> None:
    notes = Notes()
    engine = make(observer=notes)
    await engine.start()
    await asyncio.gather(*(engine.candidates(QUESTION, 2, replace(OPTIONS, seed=seed)) for seed in range(6)))
    assert max(notes.rows) > 2


async def test_a_request_joins_those_under_way(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    task = asyncio.create_task(engine.candidates(QUESTION, 3, LONG))
    await _until(lambda: engine.rows == 3)
    await engine.candidates(QUESTION, 1, OPTIONS)
    assert not task.done()
    task.cancel()


async def test_cancelling_a_call_frees_the_rows_of_all_its_candidates(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    task = asyncio.create_task(engine.candidates(QUESTION, 16, LONG))
    await _until(lambda: engine.rows == 16)
    task.cancel()
    await _until(lambda: engine.rows == 0)
    assert engine._loaded is not None
    assert not engine._loaded.scheduler.drawings


async def test_cancelling_one_call_leaves_the_others_as_they_were(make: Make, endless: None) -> None:
    engine = make(cached_candidates=0)
    await engine.start()
    alone = await engine.candidates(QUESTION, 3, replace(LONG, seed=1))
    first = asyncio.create_task(engine.candidates(QUESTION, 8, LONG))
    second = asyncio.create_task(engine.candidates(QUESTION, 3, replace(LONG, seed=1)))
    await _until(lambda: engine.rows == 11)
    first.cancel()
    assert [one.text for one in (await second).candidates] == [one.text for one in alone.candidates]


async def test_the_callers_deadline_holds_where_it_is_shorter(make: Make, endless: None) -> None:
    engine = make(timeout_seconds=60)
    await engine.start()
    with pytest.raises(EngineTimeout, match=r"within 0\.01 s"):
        await engine.candidates(QUESTION, 16, LONG, caller=Caller(timeout_seconds=0.01))
    await _until(lambda: engine.rows == 0)


async def test_a_longer_deadline_of_the_caller_is_cut_to_the_engines(make: Make, endless: None) -> None:
    engine = make(timeout_seconds=0.01)
    await engine.start()
    with pytest.raises(EngineTimeout, match=r"within 0\.01 s"):
        await engine.candidates(QUESTION, 16, LONG, caller=Caller(timeout_seconds=60))


async def test_a_busy_tenant_does_not_keep_another_waiting(make: Make, endless: None) -> None:
    engine = make(max_rows=4, queue_size=50)
    await engine.start()
    order: list[str] = []

    async def ask(tenant: str, seed: int) -> None:
        await engine.candidates(QUESTION, 4, replace(LONG, max_tokens=20, seed=seed), caller=Caller(tenant))
        order.append(tenant)

    async with asyncio.TaskGroup() as group:
        for seed in range(8):
            group.create_task(ask("busy", seed))
        await asyncio.sleep(0)
        for seed in range(2):
            group.create_task(ask("quiet", seed))
    assert order.index("quiet") <= 2
    assert order[:6].count("quiet") == 2


async def test_a_full_queue_refuses_and_recovers(make: Make, endless: None) -> None:
    engine = make(max_rows=4, queue_size=1)
    await engine.start()
    tasks = [asyncio.create_task(engine.candidates(QUESTION, 4, replace(LONG, seed=seed))) for seed in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(EngineOverloaded):
        await engine.candidates(QUESTION, 4, LONG)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len((await engine.candidates(QUESTION, 4, OPTIONS)).candidates) == 4


async def test_texts_are_scored_while_others_are_written(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    task = asyncio.create_task(engine.candidates(QUESTION, 4, LONG))
    await _until(lambda: engine.rows == 4)
    assert (await engine.basis_rewards(QUESTION, ["Soup.", "Rice."])).shape == (2, 3)
    assert not task.done()
    task.cancel()


async def test_decoding_goes_on_while_texts_are_scored(
    make: Make, endless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    engine = make(observer=notes)
    await engine.start()
    task = asyncio.create_task(engine.candidates(QUESTION, 4, LONG))
    await _until(lambda: engine.rows == 4)
    steps = [0, 0]

    def score(check: Callable[[], None]) -> None:
        steps[0] = len(notes.rows)
        for _ in range(5):
            check()
        steps[1] = len(notes.rows)

    await engine._worker.run(score)
    assert steps[1] - steps[0] == 5
    task.cancel()


async def test_a_prompt_that_does_not_fit_fails_alone(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    sound = asyncio.create_task(engine.candidates(QUESTION, 2, OPTIONS))
    with pytest.raises(PromptTooLong):
        await engine.candidates((Message("user", "word " * 250),), 1, OPTIONS)
    assert len((await sound).candidates) == 2


async def test_an_error_in_one_requests_own_part_fails_it_alone(
    make: Make, endless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    await engine.start()
    finish_of = Drawing.finish_of

    def failing(drawing: Drawing, path: object) -> object:
        if drawing.options.seed == 99:
            raise ZeroDivisionError
        return finish_of(drawing, path)  # type: ignore[arg-type]

    monkeypatch.setattr(Drawing, "finish_of", failing)
    sound = asyncio.create_task(engine.candidates(QUESTION, 2, OPTIONS))
    with pytest.raises(ZeroDivisionError):
        await engine.candidates(QUESTION, 2, replace(OPTIONS, seed=99))
    assert len((await sound).candidates) == 2
    assert engine.rows == 0


async def test_an_error_in_a_shared_step_fails_all_and_the_engine_goes_on(
    make: Make, endless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make()
    await engine.start()
    tasks = [asyncio.create_task(engine.candidates(QUESTION, 2, replace(LONG, seed=seed))) for seed in range(3)]
    await _until(lambda: engine.rows == 6)
    assert engine._loaded is not None
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise MemoryError

        patched.setattr(engine._loaded.scheduler, "_choose", fail)
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [MemoryError] * 3
    assert len((await engine.candidates(QUESTION, 2, OPTIONS)).candidates) == 2


async def test_closing_finishes_all_that_was_accepted(make: Make) -> None:
    engine = make(max_rows=4)
    await engine.start()
    tasks = [asyncio.create_task(engine.candidates(QUESTION, 4, replace(OPTIONS, seed=seed))) for seed in range(4)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(engine.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="shutting down"):
        await engine.candidates(QUESTION, 1, OPTIONS)
    assert [len(one.candidates) for one in await asyncio.gather(*tasks)] == [4] * 4
    await closing


async def _streamed(
    engine: TransformersEngine, options: SamplingOptions, **more: object
) -> tuple[list[str], CandidateSet]:
    pieces: list[str] = []
    async for one in engine.stream(QUESTION, options, **more):  # type: ignore[arg-type]
        if isinstance(one, CandidateSet):
            return pieces, one
        pieces.append(one)
    raise AssertionError


@pytest.mark.parametrize("steering", [None, STEERING, replace(STEERING, guidance="block", block_tokens=4)])
async def test_a_stream_is_the_candidate_in_pieces(make: Make, steering: Steering | None) -> None:
    engine = make(values=random_values())
    await engine.start()
    options = replace(OPTIONS, max_tokens=30, cacheable=False)
    pieces, drawn = await _streamed(engine, options, steering=steering)
    expected = await engine.candidates(QUESTION, 1, options, steering=steering)
    assert "".join(pieces) == drawn.candidates[0].text == expected.candidates[0].text
    assert len(pieces) > 2


async def test_a_stream_stops_before_its_stop_string(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    whole = (await engine.candidates(QUESTION, 1, OPTIONS)).candidates[0].text
    pieces, drawn = await _streamed(engine, replace(OPTIONS, stop=(whole[5:8],)))
    assert "".join(pieces) == drawn.candidates[0].text == whole[: whole.find(whole[5:8])].strip()


async def test_a_stream_of_what_is_known_gives_the_same_text(make: Make) -> None:
    engine = make()
    await engine.start()
    known = await engine.candidates(QUESTION, 1, OPTIONS)
    pieces, drawn = await _streamed(engine, OPTIONS)
    assert ("".join(pieces), drawn) == (known.candidates[0].text, known)


async def test_the_first_piece_comes_before_the_text_is_finished(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    async with aclosing(engine.stream(QUESTION, LONG)) as stream:
        await anext(stream)
        assert engine.rows == 1


async def test_closing_a_stream_ends_its_decoding(make: Make, endless: None) -> None:
    engine = make()
    await engine.start()
    async with aclosing(engine.stream(QUESTION, LONG)) as stream:
        await anext(stream)
    await _until(lambda: engine.rows == 0)
    assert engine.queue_length == 0


async def test_a_stream_that_cannot_begin_raises_at_once(make: Make) -> None:
    engine = make()
    await engine.start()
    with pytest.raises(PromptTooLong):
        await anext(engine.stream((Message("user", "word " * 250),), OPTIONS))


async def test_an_engine_without_value_heads_cannot_steer(make: Make) -> None:
    engine = make()
    await engine.start()
    assert engine.steering == frozenset()
    with pytest.raises(GuidanceUnavailable, match="'token' steering"):
        await engine.candidates(QUESTION, 1, OPTIONS, steering=STEERING)


async def test_an_engine_with_value_heads_steers_in_every_way(make: Make) -> None:
    engine = make(values=random_values())
    await engine.start()
    assert engine.steering == {"token", "block", "early_stopping"}
    steering = replace(STEERING, drop_below=0.4)
    drawn = await engine.candidates(QUESTION, 8, replace(OPTIONS, max_tokens=40), steering=steering)
    assert drawn.discarded_tokens > 0
    assert engine.tokens_discarded == drawn.discarded_tokens


@pytest.mark.parametrize("coefficients", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0), (1.0, float("nan"), 0.0)])
async def test_coefficients_that_do_not_fit_the_basis_are_refused(make: Make, coefficients: tuple[float, ...]) -> None:
    engine = make(values=random_values())
    await engine.start()
    with pytest.raises(InvalidInput, match="send 3 finite numbers"):
        await engine.candidates(QUESTION, 1, OPTIONS, steering=replace(STEERING, coefficients=coefficients))


async def test_steered_candidates_are_kept_apart_from_plain_ones(make: Make) -> None:
    engine = make(values=random_values())
    await engine.start()
    steered = await engine.candidates(QUESTION, 4, OPTIONS, steering=STEERING)
    plain = await engine.candidates(QUESTION, 4, OPTIONS)
    assert [one.text for one in steered.candidates] != [one.text for one in plain.candidates]
    assert await engine.candidates(QUESTION, 4, OPTIONS, steering=STEERING) is steered


async def test_forgetting_leaves_no_text_and_no_prompt(make: Make) -> None:
    engine = make()
    await engine.start()
    first = await engine.candidates(QUESTION, 1, OPTIONS)
    await engine.forget()
    again = await engine.candidates(QUESTION, 1, OPTIONS)
    assert again is not first
    assert (first.reused_tokens, again.reused_tokens) == (0, 0)


async def test_the_next_turn_reuses_the_beginning_of_the_last(make: Make) -> None:
    engine = make()
    await engine.start()
    await engine.candidates(QUESTION, 1, OPTIONS)
    turn = (*QUESTION, Message("assistant", "Soup."), Message("user", "Why?"))
    assert (await engine.candidates(turn, 1, OPTIONS)).reused_tokens > 16


async def test_an_observer_is_told_of_tokens_and_rewards_but_not_of_the_warm_up(make: Make) -> None:
    notes = Notes()
    engine = make(observer=notes, values=random_values())
    await engine.start()
    drawn = await engine.candidates(QUESTION, 4, OPTIONS, steering=replace(STEERING, drop_below=0.4))
    assert (notes.tokens, notes.discarded) == (drawn.completion_tokens, drawn.discarded_tokens)
    np.testing.assert_array_equal(notes.rewards, [[one.basis_rewards for one in drawn.candidates]])


async def test_a_model_in_16_bits_is_decoded_and_steered_in_all_ways(make: Make) -> None:
    engine = make(values=random_values(), dtype="bfloat16")
    await engine.start()
    steering = [None, replace(STEERING, drop_below=0.2), replace(STEERING, guidance="block", block_tokens=4)]
    drawn = await asyncio.gather(*(engine.candidates(QUESTION, 4, OPTIONS, steering=one) for one in steering))
    rewards = np.stack([[one.basis_rewards for one in some.candidates] for some in drawn])
    assert np.isfinite(rewards).all()
    scored = await engine.basis_rewards(QUESTION, [one.text for one in drawn[0].candidates])
    np.testing.assert_allclose(rewards[0], scored, atol=0.5)  # bfloat16 keeps 8 bits of states of size 5
