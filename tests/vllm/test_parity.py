"""vLLM and the torch loop give the same texts, log-probabilities and basis rewards in fp32."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

from app.entities import CandidateSet, Conversation, Message, SamplingOptions, Steering
from app.generation.transformers_engine import TransformersEngine
from app.generation.vllm.vllm_engine import VllmEngine
from tests.vllm.models import values_for, write_model
from tests.vllm.reference import Reference

pytestmark = pytest.mark.anyio

TOLERANCE = 1e-4
"""Rounding of fp32 matrix products in other orders; both sides differ from fp64 by about as much."""

GREEDY = SamplingOptions(max_tokens=24, temperature=0.0, top_p=1.0, seed=1)
SAMPLED = replace(GREEDY, temperature=0.9, top_p=0.95)
QUESTIONS: tuple[Conversation, ...] = tuple(
    (Message("user", text),)
    for text in ("How do I keep a plant alive?", "What can I cook tonight with rice?", "Tell me a story about the sea.")
)


@dataclass
class Sides:
    engine: VllmEngine
    torch_engine: TransformersEngine
    reference: Reference

    async def both(
        self, question: Conversation, n: int, options: SamplingOptions, steering: Steering | None = None
    ) -> tuple[CandidateSet, CandidateSet]:
        return (
            await self.engine.candidates(question, n, options, steering=steering),
            await self.torch_engine.candidates(question, n, options, steering=steering),
        )


@pytest.fixture(scope="module", params=["bundled", "llama", "qwen2"])
async def sides(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sides]:
    directory, artifact = write_model(request.param, tmp_path_factory.mktemp(request.param))
    values = values_for(request.param, directory, artifact)
    options = {"enforce_eager": True}
    cache = tmp_path_factory.mktemp("exports")
    engine = VllmEngine(directory, artifact, values=values, dtype="float32", options=options, cache_directory=cache)
    torch_engine = TransformersEngine(directory, artifact, values=values, threads=1, device="cpu", dtype="float32")
    await torch_engine.start()
    await engine.start()
    yield Sides(engine, torch_engine, Reference(directory, artifact))
    await engine.close()
    await torch_engine.close()


def _texts(drawn: CandidateSet) -> list[tuple[str, int, str]]:
    return [(one.text, one.tokens, one.finish_reason) for one in drawn.candidates]


def _farthest(one: CandidateSet, other: CandidateSet) -> float:
    pairs = zip(one.candidates, other.candidates, strict=True)
    return max(float(np.abs(first.basis_rewards - second.basis_rewards).max()) for first, second in pairs)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_greedy_texts_are_those_of_the_torch_loop(sides: Sides, question: Conversation) -> None:
    ours, theirs = await sides.both(question, 1, GREEDY)
    assert _texts(ours) == _texts(theirs)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_sampled_texts_are_those_of_the_torch_loop(sides: Sides, question: Conversation) -> None:
    ours, theirs = await sides.both(question, 8, SAMPLED)
    assert _texts(ours) == _texts(theirs)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_basis_rewards_of_candidates_are_those_of_the_torch_loop(sides: Sides, question: Conversation) -> None:
    assert _farthest(*await sides.both(question, 8, SAMPLED)) < TOLERANCE


@pytest.mark.parametrize("stop", [(" the",), ("e", "\n"), ("a b", "t")])
async def test_texts_that_a_stop_string_cuts_are_those_of_the_torch_loop(sides: Sides, stop: tuple[str, ...]) -> None:
    ours, theirs = await sides.both(QUESTIONS[0], 4, replace(SAMPLED, stop=stop))
    assert _texts(ours) == _texts(theirs)
    assert _farthest(ours, theirs) < TOLERANCE


STEERED = {
    "token": Steering((), guidance="token", strength=0.7),
    "token and dropping": Steering((), guidance="token", strength=0.5, drop_below=0.2),
    "dropping": Steering((), drop_below=0.25),
    "block": Steering((), guidance="block", block_tokens=6, continuations=3),
    "block and dropping": Steering((), guidance="block", block_tokens=6, continuations=2, drop_below=0.3),
}


@pytest.mark.parametrize("how", STEERED)
@pytest.mark.parametrize("question", QUESTIONS[:2])
async def test_steered_candidates_are_those_of_the_torch_loop(sides: Sides, question: Conversation, how: str) -> None:
    size = len(sides.reference.artifact.offset)
    coefficients = tuple(np.random.default_rng(4).standard_normal(size).tolist())
    steering = replace(STEERED[how], coefficients=coefficients)
    ours, theirs = await sides.both(question, 5, SAMPLED, steering)
    assert _texts(ours) == _texts(theirs)
    assert _farthest(ours, theirs) < TOLERANCE
    assert ours.discarded_tokens == theirs.discarded_tokens


async def test_basis_rewards_of_given_texts_are_those_of_transformers(sides: Sides) -> None:
    texts = ["Water it once a week.", "I do not know.", "Ask your neighbour, who has many plants and loves them."]
    found = await sides.engine.basis_rewards(QUESTIONS[0], texts)
    tokenizer = sides.reference.tokenizer
    prompt = tokenizer.prompt_ids(QUESTIONS[0])
    expected = [sides.reference.rewards(prompt, tokenizer.response_ids(text)) for text in texts]
    assert np.abs(found - expected).max() < TOLERANCE


async def test_given_texts_have_the_rewards_that_they_had_as_candidates(sides: Sides) -> None:
    drawn = (await sides.engine.candidates(QUESTIONS[1], 8, SAMPLED)).candidates
    tokenizer = sides.reference.tokenizer
    same = [one for one in drawn if len(tokenizer.response_ids(one.text)) == one.tokens]
    found = await sides.engine.basis_rewards(QUESTIONS[1], [one.text for one in same])
    assert same
    assert np.abs(found - [one.basis_rewards for one in same]).max() < TOLERANCE


async def test_log_probabilities_are_those_of_transformers(sides: Sides) -> None:
    prompt = sides.reference.tokenizer.prompt_ids(QUESTIONS[0])
    ids, found = await _stock_log_probabilities(sides.engine, prompt, 12)
    assert np.abs(found - sides.reference.log_probabilities(prompt, ids)).max() < TOLERANCE


async def _stock_log_probabilities(engine: VllmEngine, prompt: list[int], most: int) -> tuple[list[int], np.ndarray]:
    """Of vLLM's own greedy tokens, renormalised to the model's own vocabulary; it tells 128 ids at a time."""
    rows = engine._client.export.rows
    elsewhere = np.zeros(most)
    for first in range(rows.first, rows.end, 128):
        virtual = list(range(first, min(first + 128, rows.end)))
        drawn = await _stock_answer(engine, prompt, most, virtual)
        elsewhere += [sum(np.exp(step[one].logprob) for one in virtual) for step in drawn.logprobs]
    found = [step[token].logprob for token, step in zip(drawn.token_ids, drawn.logprobs, strict=True)]
    return list(drawn.token_ids), found - np.log1p(-elsewhere)


async def _stock_answer(engine: VllmEngine, prompt: list[int], most: int, ids: list[int]):
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(
        temperature=0.0,
        max_tokens=most,
        logprob_token_ids=ids,
        ignore_eos=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
    async for output in engine._client._llm.generate({"prompt_token_ids": prompt}, params, f"stock-{ids[0]}"):
        (drawn,) = output.outputs
    return drawn
