"""What the vLLM engine promises as a ``ports.Decoder``: seeds, steering, company, cancellation and errors."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from app.entities import Caller, CandidateSet, Conversation, Message, SamplingOptions, Steering
from app.errors import (
    ArtifactError,
    ArtifactIncompatible,
    ConfigurationError,
    EngineOverloaded,
    EngineTimeout,
    GuidanceUnavailable,
    InvalidInput,
    PromptTooLong,
)
from app.generation.vllm.vllm_client import Draw, VllmClient
from app.generation.vllm.vllm_engine import VllmEngine
from app.rewards.artifact import BasisArtifact
from app.rewards.export import export_checkpoint
from app.rewards.values import ValueHeads
from tests.fakes.tiny_model import CONTEXT, write_tiny_basis
from tests.vllm.models import random_values, write_model
from tests.vllm.reference import Reference

pytestmark = pytest.mark.anyio

OPTIONS = SamplingOptions(max_tokens=20, temperature=1.0, top_p=0.95, seed=5, cacheable=False)
GREEDY = replace(OPTIONS, temperature=0.0)
QUESTION: Conversation = (Message("user", "What should I cook tonight?"),)
TOLERANCE = 1e-4


@dataclass
class Made:
    engine: VllmEngine
    directory: Path
    artifact: BasisArtifact
    values: ValueHeads
    export: Path

    @property
    def reference(self) -> Reference:
        return Reference(self.directory, self.artifact, self.values)


@pytest.fixture(scope="module")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Made]:
    directory, artifact = write_model("llama", tmp_path_factory.mktemp("llama"))
    values = random_values(directory, artifact)
    export = export_checkpoint(directory, artifact, tmp_path_factory.mktemp("export"), values=values).directory
    engine = VllmEngine(
        export, artifact, values=values, dtype="float32", queue_size=30, options={"enforce_eager": True}
    )
    await engine.start()
    yield Made(engine, directory, artifact, values, export)
    await engine.close()


def _steering(*coefficients: float, **how: object) -> Steering:
    return Steering(coefficients or (1.0, -0.5, 0.3), **how)  # type: ignore[arg-type]


def _texts(drawn: CandidateSet) -> list[str]:
    return [one.text for one in drawn.candidates]


def _same(one: CandidateSet, other: CandidateSet) -> bool:
    rewards = [
        np.abs(a.basis_rewards - b.basis_rewards).max() < TOLERANCE
        for a, b in zip(one.candidates, other.candidates, strict=True)
    ]
    return _texts(one) == _texts(other) and all(rewards)


async def _emptied(engine: VllmEngine) -> tuple[int, int]:
    """What is left in vLLM's batch once it has had time to notice."""
    for _ in range(100):
        if await engine.batch_counts() == (0, 0) and engine.rows == 0:
            break
        await asyncio.sleep(0.05)
    return await engine.batch_counts()


async def test_the_same_seed_gives_the_same_candidates(made: Made) -> None:
    assert _same(await made.engine.candidates(QUESTION, 6, OPTIONS), await made.engine.candidates(QUESTION, 6, OPTIONS))


async def test_another_seed_gives_other_texts(made: Made) -> None:
    other = await made.engine.candidates(QUESTION, 6, replace(OPTIONS, seed=6))
    assert _texts(other) != _texts(await made.engine.candidates(QUESTION, 6, OPTIONS))


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64 + 5])
async def test_any_integer_is_a_seed(made: Made, seed: int) -> None:
    ours = await made.engine.candidates(QUESTION, 2, replace(OPTIONS, seed=seed))
    assert _same(ours, await made.engine.candidates(QUESTION, 2, replace(OPTIONS, seed=seed % 2**64)))


async def test_the_candidates_of_one_request_differ(made: Made) -> None:
    assert len(set(_texts(await made.engine.candidates(QUESTION, 6, OPTIONS)))) == 6


async def test_the_first_of_many_is_the_only_one_of_one(made: Made) -> None:
    many, one = await made.engine.candidates(QUESTION, 9, OPTIONS), await made.engine.candidates(QUESTION, 1, OPTIONS)
    assert _texts(many)[:1] == _texts(one)


async def test_greedy_candidates_are_drawn_once(made: Made) -> None:
    drawn = await made.engine.candidates(QUESTION, 3, GREEDY)
    assert (len(set(_texts(drawn))), drawn.completion_tokens) == (1, drawn.candidates[0].tokens)


@pytest.mark.parametrize("guidance", ["token", "block"])
async def test_strength_0_is_plain_sampling(made: Made, guidance: str) -> None:
    steered = await made.engine.candidates(QUESTION, 4, OPTIONS, steering=_steering(guidance=guidance, strength=0.0))
    plain = await made.engine.candidates(QUESTION, 4, OPTIONS)
    assert [(one.text, *one.basis_rewards) for one in steered.candidates] == [
        (one.text, *one.basis_rewards) for one in plain.candidates
    ]


@pytest.mark.parametrize("coefficients", [(1.0, -0.5, 0.3), (-2.0, 0.0, 1.0), (0.0, 3.0, 0.0)])
async def test_token_guidance_is_the_tilt_of_its_definition(made: Made, coefficients: tuple[float, ...]) -> None:
    steering = _steering(*coefficients, guidance="token", strength=1.5)
    (ours,) = (await made.engine.candidates(QUESTION, 1, GREEDY, steering=steering)).candidates
    reference = made.reference
    prompt = reference.tokenizer.prompt_ids(QUESTION)
    expected = reference.greedy(prompt, GREEDY.max_tokens, 1.5 * np.array(coefficients))
    assert ours.text == reference.tokenizer.text(expected).strip()


async def test_guided_candidates_have_the_rewards_of_their_texts(made: Made) -> None:
    steering = _steering(guidance="token")
    (ours,) = (await made.engine.candidates(QUESTION, 1, GREEDY, steering=steering)).candidates
    reference = made.reference
    prompt = reference.tokenizer.prompt_ids(QUESTION)
    ids = reference.greedy(prompt, GREEDY.max_tokens, np.array(steering.coefficients))
    assert np.abs(ours.basis_rewards - reference.rewards(prompt, ids)).max() < TOLERANCE


async def test_24_people_at_once_are_answered_as_one_at_a_time(made: Made) -> None:
    rng = np.random.default_rng(3)
    asked = [
        (replace(OPTIONS, seed=number), _steering(*rng.standard_normal(3) * 2, guidance="token"))
        for number in range(24)
    ]
    alone = [await made.engine.candidates(QUESTION, 1, options, steering=steering) for options, steering in asked]
    at_once = await asyncio.gather(
        *(made.engine.candidates(QUESTION, 1, options, steering=steering) for options, steering in asked)
    )
    assert all(_same(one, other) for one, other in zip(alone, at_once, strict=True))


async def test_guided_and_plain_requests_do_not_mix(made: Made) -> None:
    plain = await made.engine.candidates(QUESTION, 4, OPTIONS)
    beside, _ = await asyncio.gather(
        made.engine.candidates(QUESTION, 4, OPTIONS),
        made.engine.candidates(QUESTION, 4, OPTIONS, steering=_steering(9.0, 9.0, 9.0, guidance="token")),
    )
    assert _same(plain, beside)


async def test_blocks_are_chosen_by_what_they_promise(made: Made) -> None:
    steering = _steering(guidance="block", block_tokens=5, continuations=3)
    options = replace(OPTIONS, max_tokens=5, seed=0)
    drawn = await made.engine.candidates(QUESTION, 1, options, steering=steering)
    reference = made.reference
    prompt = reference.tokenizer.prompt_ids(QUESTION)
    texts = [await _first_block(made.engine, prompt, options, continuation) for continuation in range(3)]
    worth = [float(np.array(steering.coefficients) @ reference.rewards(prompt, ids)) for ids in texts]
    best = reference.tokenizer.text(texts[int(np.argmax(worth))])
    assert len(set(map(tuple, texts))) == 3
    assert drawn.candidates[0].text == best.strip()


async def _first_block(engine: VllmEngine, prompt: list[int], options: SamplingOptions, continuation: int) -> list[int]:
    client, key = engine._client, engine._client.new_key()
    drawn = await client.draw(key, prompt, Draw(0, options, 0, options.max_tokens, continuation))
    await client.read([key], [options.max_tokens])
    return drawn[: options.max_tokens]


async def test_blocks_that_did_not_go_on_are_counted_as_discarded(made: Made) -> None:
    steering = _steering(guidance="block", block_tokens=4, continuations=3)
    drawn = await made.engine.candidates(QUESTION, 2, OPTIONS, steering=steering)
    kept = sum(one.tokens for one in drawn.candidates)
    assert drawn.completion_tokens - drawn.discarded_tokens == kept


async def test_block_guided_candidates_have_the_rewards_of_their_texts(made: Made) -> None:
    steering = _steering(guidance="block", block_tokens=4, continuations=3)
    drawn = await made.engine.candidates(QUESTION, 3, OPTIONS, steering=steering)
    reference = made.reference
    prompt = reference.tokenizer.prompt_ids(QUESTION)
    expected = [reference.rewards(prompt, reference.tokenizer.response_ids(one.text)) for one in drawn.candidates]
    assert np.abs(np.stack([one.basis_rewards for one in drawn.candidates]) - expected).max() < TOLERANCE


async def test_dropped_candidates_have_the_rewards_that_their_beginnings_promise(made: Made) -> None:
    drawn = await made.engine.candidates(QUESTION, 8, OPTIONS, steering=_steering(drop_below=0.3))
    dropped = [one for one in drawn.candidates if one.finish_reason == "dropped"]
    reference = made.reference
    prompt = reference.tokenizer.prompt_ids(QUESTION)
    expected = [reference.promise(prompt, reference.tokenizer.response_ids(one.text)) for one in dropped]
    assert dropped
    assert np.abs(np.stack([one.basis_rewards for one in dropped]) - expected).max() < TOLERANCE


async def test_what_is_dropped_does_not_depend_on_company(made: Made) -> None:
    steering = _steering(drop_below=0.3)
    alone = await made.engine.candidates(QUESTION, 8, OPTIONS, steering=steering)
    beside, _ = await asyncio.gather(
        made.engine.candidates(QUESTION, 8, OPTIONS, steering=steering),
        made.engine.candidates(QUESTION, 12, replace(OPTIONS, seed=9)),
    )
    assert _same(alone, beside)


async def test_some_candidate_always_survives(made: Made) -> None:
    drawn = await made.engine.candidates(QUESTION, 8, OPTIONS, steering=_steering(drop_below=0.5))
    assert any(one.finish_reason != "dropped" for one in drawn.candidates)


async def test_a_stop_string_cuts_the_text_and_its_rewards(made: Made) -> None:
    (whole,) = (await made.engine.candidates(QUESTION, 1, OPTIONS)).candidates
    stop = whole.text[6:8]
    (cut,) = (await made.engine.candidates(QUESTION, 1, replace(OPTIONS, stop=(stop,)))).candidates
    reference = made.reference
    prompt = reference.tokenizer.prompt_ids(QUESTION)
    kept = whole.text[: whole.text.index(stop)]
    assert (cut.text, cut.finish_reason) == (kept.strip(), "stop")
    assert (
        np.abs(cut.basis_rewards - reference.rewards(prompt, reference.tokenizer.response_ids(kept))).max() < TOLERANCE
    )


async def test_the_pieces_of_a_stream_are_the_text(made: Made) -> None:
    pieces, last = [], None
    async for piece in made.engine.stream(QUESTION, OPTIONS):
        if isinstance(piece, str):
            pieces.append(piece)
        else:
            last = piece
    assert last is not None
    assert len(pieces) > 1
    assert "".join(pieces) == last.candidates[0].text
    assert _same(last, await made.engine.candidates(QUESTION, 1, OPTIONS))


async def test_prompts_that_begin_alike_are_read_once(made: Made) -> None:
    long = (Message("user", "Tell me about the sea and the ships on it, and about those who sail them. " * 2),)
    await made.engine.candidates(long, 1, OPTIONS)
    again = await made.engine.candidates(long, 1, replace(OPTIONS, seed=77))
    assert again.reused_tokens > 0


async def test_a_text_that_fills_the_context_has_the_rewards_of_all_of_it(made: Made) -> None:
    prompt = made.reference.tokenizer.prompt_ids(QUESTION)
    room = CONTEXT - len(prompt)
    (one,) = (await made.engine.candidates(QUESTION, 1, replace(OPTIONS, max_tokens=room))).candidates
    assert np.isfinite(one.basis_rewards).all()
    with pytest.raises(PromptTooLong):
        await made.engine.candidates(QUESTION, 1, replace(OPTIONS, max_tokens=room + 1))


async def test_cancelling_a_call_frees_all_its_candidates(made: Made) -> None:
    call = asyncio.create_task(made.engine.candidates(QUESTION, 16, replace(OPTIONS, max_tokens=200)))
    while (await made.engine.batch_counts())[0] < 16:  # noqa: ASYNC110 (the batch is in another process)
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait([call])
    assert await _emptied(made.engine) == (0, 0)


async def test_leaving_a_stream_frees_its_candidate(made: Made) -> None:
    stream = made.engine.stream(QUESTION, replace(OPTIONS, max_tokens=200))
    await anext(stream)
    await stream.aclose()
    assert await _emptied(made.engine) == (0, 0)


async def test_a_call_that_takes_too_long_times_out_and_frees_all(made: Made) -> None:
    hasty = Caller(timeout_seconds=0.05)
    with pytest.raises(EngineTimeout):
        await made.engine.candidates(QUESTION, 16, replace(OPTIONS, max_tokens=200), caller=hasty)
    assert await _emptied(made.engine) == (0, 0)


async def test_a_full_queue_is_told_at_once(made: Made) -> None:
    calls = [
        asyncio.create_task(made.engine.candidates(QUESTION, 64, replace(OPTIONS, seed=number))) for number in range(40)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert any(isinstance(one, EngineOverloaded) for one in results)
    assert sum(isinstance(one, CandidateSet) for one in results) >= 30


@pytest.mark.parametrize("coefficients", [(1.0,), (1.0, 2.0, 3.0, 4.0), (1.0, float("nan"), 0.0)])
async def test_malformed_coefficients_are_refused(made: Made, coefficients: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput, match="finite numbers"):
        await made.engine.candidates(QUESTION, 1, OPTIONS, steering=Steering(coefficients, guidance="token"))


async def test_after_all_that_nothing_is_left_in_the_batch(made: Made) -> None:
    assert await _emptied(made.engine) == (0, 0)


async def test_without_value_heads_steering_is_refused(made: Made) -> None:
    engine = VllmEngine(made.export, made.artifact)
    with pytest.raises(GuidanceUnavailable):
        await engine.candidates(QUESTION, 1, OPTIONS, steering=_steering(guidance="token"))


async def test_an_export_of_another_basis_is_refused(made: Made, tmp_path: Path) -> None:
    other = write_tiny_basis(tmp_path / "basis", made.directory, hidden=64, seed=99)
    with pytest.raises(ArtifactIncompatible, match="basis"):
        await VllmEngine(made.export, other).start()


async def test_an_export_with_changed_weights_is_refused(made: Made, tmp_path: Path) -> None:
    export = export_checkpoint(made.directory, made.artifact, tmp_path / "export").directory
    weights = bytearray((export / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (export / "model.safetensors").write_bytes(weights)
    with pytest.raises(ArtifactError, match="SHA-256"):
        await VllmEngine(export, made.artifact).start()


async def test_an_option_that_attune_sets_is_refused(made: Made) -> None:
    with pytest.raises(ConfigurationError, match="max_model_len"):
        VllmClient(made.engine._client.export, most_rows=4, options={"max_model_len": 8})
