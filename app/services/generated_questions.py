"""Has the engine write questions about what is least known of a person. Knows no storage; opens no transaction."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np
import structlog

from app.entities import Caller, CandidatePair, Message, Questionnaire, SamplingOptions
from app.errors import EngineTimeout, NonFiniteReward, PromptTooLong, Unavailable
from app.ports import BasisRegistry, Decoder
from app.preferences.belief import Belief
from app.preferences.generated_pairs import most_telling_pair
from app.preferences.selection import expected_information_bits
from app.preferences.stopping import MINIMUM_INFORMATION_BITS
from app.services.identifiers import tenant_of
from app.services.pool_questions import Choice
from app.services.questionnaires import Asked

log = structlog.get_logger("attune.questions")

LEAST_TOKENS = 16
"""Fewer tokens than these make no response worth comparing."""

ENGINE_TROUBLE = (Unavailable, NonFiniteReward)
"""Errors of the engine that say nothing about the request."""

TEMPERATURE = 0.8
TOP_P = 0.95
"""As responses are served by default, so that people compare texts like those they would get."""
LARGEST_SEED = 2**31


@dataclass(frozen=True)
class Prompt:
    """A prompt to write a question for; ``field`` names it in the request of the caller who sent it."""

    id: str
    topic: str
    text: str
    field: str | None = None


@dataclass
class _Outcome:
    """What became of the prompts so far; ``dull`` counts those without two candidates worth comparing."""

    choices: list[Choice] = field(default_factory=list)
    refusals: list[PromptTooLong] = field(default_factory=list)
    dull: int = 0


@dataclass(frozen=True)
class GeneratedQuestions:
    """Draws ``candidates`` for a prompt and asks about the two of them whose comparison tells most.

    Candidates have at most ``max_tokens``, fewer where the prompt leaves less room. One call takes at most
    ``timeout_seconds``, however many questions are wanted.

    What is asked and learned from are the basis rewards of the two texts as read again, not those of their decoding.
    """

    registry: BasisRegistry
    decoder: Decoder
    rng: np.random.Generator
    candidates: int = 8
    max_tokens: int = 96
    timeout_seconds: float = 30.0

    async def __call__(self, belief: Belief, asked: Asked, questionnaire: Questionnaire, count: int) -> list[Choice]:
        """At most ``count`` questions of different prompts; fewer where the engine writes too little that tells.

        Prompts that are too long, or whose candidates tell too little, are passed over for others until time is up.

        Raises, where no question was written: the engine's own trouble; ``EngineTimeout`` where time was up before any
        prompt was done; where every prompt is too long, ``PromptTooLong`` for a caller's in a new questionnaire and
        ``Unavailable`` for the pool's.
        """
        prompts = self._prompts(questionnaire, asked)
        outcome = _Outcome()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await self._go_through(prompts, belief, asked, count, outcome, questionnaire.user_id)
        except TimeoutError as error:
            if not outcome.choices and not outcome.dull:
                raise EngineTimeout(self.timeout_seconds) from error
        except ENGINE_TROUBLE:
            if not outcome.choices:
                raise
        if prompts and len(outcome.refusals) == len(prompts):
            self._refuse(questionnaire, outcome.refusals)
        return outcome.choices

    async def _go_through(
        self, prompts: Sequence[Prompt], belief: Belief, asked: Asked, count: int, outcome: "_Outcome", user_id: str
    ) -> None:
        """Write on one prompt after the other until there are enough; what is done stays in ``outcome``."""
        caller = Caller(tenant_of(user_id), self.timeout_seconds)
        for prompt in prompts:
            try:
                choice = await self._write_to_fit(prompt, belief, asked, caller)
            except PromptTooLong as error:
                error.field = prompt.field
                outcome.refusals.append(error)
                continue
            if choice is None:
                outcome.dull += 1
            else:
                outcome.choices.append(choice)
            if len(outcome.choices) == count:
                return

    def _refuse(self, questionnaire: Questionnaire, refusals: Sequence[PromptTooLong]) -> None:
        """Tell whoever can mend it that no prompt fits; a caller's questionnaire that was under way just ends."""
        if not questionnaire.prompts:
            log.warning("no_prompt_fits", prompts=len(refusals), topic=questionnaire.topic, reason=refusals[0].message)
            raise Unavailable("No prompt of the pool fits into the engine's context; its operator has to serve others.")
        if not questionnaire.questions:
            raise refusals[0]

    def _prompts(self, questionnaire: Questionnaire, asked: Asked) -> list[Prompt]:
        """The prompts to choose from, those asked least often first, otherwise in random order."""
        prompts = _own_prompts(questionnaire) or self._pool_prompts(questionnaire.topic)
        times = Counter(pair.prompt_id for pair in asked.pairs)
        shuffled = [prompts[place] for place in self.rng.permutation(len(prompts))]
        return sorted(shuffled, key=lambda prompt: times[prompt.id])

    def _pool_prompts(self, topic: str | None) -> Sequence[Prompt]:
        pool = self.registry.pool
        pairs = [pool.pairs[row] for row in pool.prompt_rows]
        return [Prompt(one.prompt_id, one.topic, one.prompt) for one in pairs if topic in {None, one.topic}]

    async def _write_to_fit(self, prompt: Prompt, belief: Belief, asked: Asked, caller: Caller) -> Choice | None:
        """As ``_write``, with half as many tokens again and again while they do not fit with the prompt."""
        max_tokens = self.max_tokens
        while True:
            try:
                return await self._write(prompt, belief, asked, max_tokens, caller)
            except PromptTooLong:
                if max_tokens <= LEAST_TOKENS:
                    raise
                max_tokens = max(max_tokens // 2, LEAST_TOKENS)

    async def _write(
        self, prompt: Prompt, belief: Belief, asked: Asked, max_tokens: int, caller: Caller
    ) -> Choice | None:
        """A question on ``prompt``; None where the candidates are alike, tell too little, or were compared before."""
        conversation = (Message("user", prompt.text),)
        drawn = await self.decoder.candidates(conversation, self.candidates, self._options(max_tokens), caller=caller)
        different = {one.text.strip(): one.basis_rewards for one in drawn.candidates if one.text.strip()}
        if len(different) < 2:
            return None
        telling = most_telling_pair(belief, np.stack(list(different.values())).astype(np.float64))
        texts = list(different)
        first, second = texts[telling.first], texts[telling.second]
        pair = CandidatePair(None, prompt.topic, prompt.id, prompt.text, first, second)
        if asked.compared(pair):
            return None
        scored = await self.decoder.basis_rewards(conversation, [first, second], caller=caller)
        rewards = np.asarray(scored, dtype=np.float64)
        differences = rewards[0] - rewards[1]
        bits = float(expected_information_bits(belief, differences[None])[0])
        return None if bits < MINIMUM_INFORMATION_BITS else Choice(pair, tuple(differences.tolist()), bits)

    def _options(self, max_tokens: int) -> SamplingOptions:
        seed = int(self.rng.integers(LARGEST_SEED))
        return SamplingOptions(max_tokens, TEMPERATURE, TOP_P, seed, cacheable=False)


def _own_prompts(questionnaire: Questionnaire) -> list[Prompt]:
    """The caller's different prompts, named by what they say so that repetitions are noticed in any questionnaire."""
    places = {text.strip(): index for index, text in reversed(list(enumerate(questionnaire.prompts)))}
    return [
        Prompt(f"own-{sha256(text.encode()).hexdigest()[:16]}", questionnaire.topic or "own", text, f"prompts.{index}")
        for text, index in sorted(places.items(), key=lambda item: item[1])
    ]
