"""Answers in every way, drawn through ``ports.Decoder``. Plain candidates are drawn once and shared by all people."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

from app.entities import CandidateSet, Conversation, Message, SamplingOptions
from app.ports import Decoder
from app.preferences.belief import Belief
from app.training.frontier.arms import Arm
from app.training.frontier.people import Wishes

ROWS_TOGETHER = 192
"""Candidates asked for at a time: more than the engine decodes together, so that it is never short of work."""
_OTHER_SEEDS = 1_000_003
Work = TypeVar("Work")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Sampling:
    """How everything is sampled: the service's usual settings; prompt p has ``seed`` + p."""

    max_tokens: int = 128
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 2024

    def options(self, prompt: int, *, other: bool = False) -> SamplingOptions:
        """Settings for one prompt; ``other`` gives candidates that share no random number with the usual ones."""
        seed = self.seed + prompt + (_OTHER_SEEDS if other else 0)
        return SamplingOptions(self.max_tokens, self.temperature, self.top_p, seed, cacheable=False)


@dataclass(frozen=True)
class Answer:
    """What a person was served: its basis rewards (K,), its tokens, and all tokens generated for it."""

    text: str
    basis_rewards: Float64[np.ndarray, " basis"]
    length: int
    generated: int


@dataclass(frozen=True)
class Shared:
    """Plain candidates of every prompt, which depend on nobody, and other plain answers to judge against."""

    candidates: tuple[CandidateSet, ...]
    others: tuple[CandidateSet, ...]

    def first(self, prompt: int, n: int) -> CandidateSet:
        """What ``n`` plain candidates would have been: the first ones, as ``Decoder.candidates`` promises."""
        kept = self.candidates[prompt].candidates[:n]
        return CandidateSet(kept, self.candidates[prompt].prompt_tokens, sum(one.tokens for one in kept))

    @property
    def plain_tokens(self) -> Float64[np.ndarray, " prompts"]:
        """Tokens of a plain answer to each prompt, on average."""
        return np.array([np.mean([one.tokens for one in drawn.candidates]) for drawn in self.candidates])

    @property
    def plain_rewards(self) -> Float64[np.ndarray, "prompts basis"]:
        """Basis rewards of a plain answer to each prompt, on average."""
        return np.array([np.mean([one.basis_rewards for one in drawn.candidates], axis=0) for drawn in self.candidates])


def conversation(prompt: str) -> Conversation:
    """A conversation of one turn."""
    return (Message("user", prompt),)


async def draw_shared(
    decoder: Decoder, prompts: Sequence[str], n: int, others: int, sampling: Sampling, progress: Callable[[], None]
) -> Shared:
    """Draw ``n`` plain candidates, and ``others`` plain answers with another seed, for every prompt."""

    async def draw(work: tuple[int, bool]) -> CandidateSet:
        prompt, other = work
        options = sampling.options(prompt, other=other)
        drawn = await decoder.candidates(conversation(prompts[prompt]), others if other else n, options)
        progress()
        return drawn

    candidates = await _together(draw, [(number, False) for number in range(len(prompts))], n)
    against = await _together(draw, [(number, True) for number in range(len(prompts))], others)
    return Shared(tuple(candidates), tuple(against))


async def draw_steered(
    decoder: Decoder,
    prompts: Sequence[str],
    arm: Arm,
    wanted: Sequence[tuple[int, Wishes]],
    sampling: Sampling,
    progress: Callable[[], None],
) -> list[CandidateSet]:
    """Draw the candidates of ``arm`` for pairs of a prompt's number and a person's wishes, many of them together."""

    async def draw(work: tuple[int, Wishes]) -> CandidateSet:
        prompt, wishes = work
        drawn = await candidates_for(decoder, prompts[prompt], arm, wishes, sampling.options(prompt))
        progress()
        return drawn

    return await _together(draw, wanted, arm.n)


async def candidates_for(
    decoder: Decoder, prompt: str, arm: Arm, wishes: Wishes, options: SamplingOptions
) -> CandidateSet:
    """The candidates of one request in the way of ``arm``."""
    steering = None if arm.plain else arm.steering(wishes.coefficients)
    return await decoder.candidates(conversation(prompt), arm.n, options, steering=steering)


async def seconds_alone(
    decoder: Decoder,
    prompts: Sequence[str],
    arm: Arm,
    wanted: Sequence[tuple[int, Wishes]],
    sampling: Sampling,
) -> float:
    """Processor seconds of one request, with nobody else in the engine: the median of those ``wanted``."""
    taken = []
    for prompt, wishes in wanted:
        began = time.process_time()
        await candidates_for(decoder, prompts[prompt], arm, wishes, sampling.options(prompt))
        taken.append(time.process_time() - began)
    return float(np.median(taken))


def choose(drawn: CandidateSet, wishes: Wishes, population: Belief) -> Answer:
    """The candidate that the service would serve; one that was stopped early is none."""
    whole = [one for one in drawn.candidates if one.finish_reason != "dropped"]
    chosen = whole[wishes.best(population, np.stack([one.basis_rewards for one in whole]))]
    return Answer(chosen.text, chosen.basis_rewards, chosen.tokens, drawn.completion_tokens)


async def _together(call: Callable[[Work], Awaitable[Result]], pieces: Sequence[Work], rows: int) -> list[Result]:
    """The results in order, with so many calls at a time as keep the engine busy."""
    places = asyncio.Semaphore(max(1, ROWS_TOGETHER // rows))

    async def take_turn(work: Work) -> Result:
        async with places:
            return await call(work)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(take_turn(work)) for work in pieces]
    return [task.result() for task in tasks]
