"""Has the engine write questions about what is least known of a person. Knows no storage; opens no transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from app.entities import CandidatePair, Message, Questionnaire, SamplingOptions
from app.errors import NonFiniteReward, PromptTooLong, Unavailable
from app.ports import BasisRegistry, Decoder
from app.preferences.belief import Belief
from app.preferences.generated_pairs import most_telling_pair
from app.preferences.selection import expected_information_bits
from app.preferences.stopping import MINIMUM_INFORMATION_BITS
from app.services.pool_questions import Choice
from app.services.questionnaires import Asked

SPARE_PROMPTS = 2
"""Prompts tried beyond the questions wanted: candidates may come out alike, or tell nothing."""

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


@dataclass(frozen=True)
class GeneratedQuestions:
    """Draws ``candidates`` for a prompt and asks about the two of them whose comparison tells most.

    What is asked and learned from are the basis rewards of the two texts as read again, not those of their decoding.
    """

    registry: BasisRegistry
    decoder: Decoder
    rng: np.random.Generator
    candidates: int = 8
    max_tokens: int = 96

    async def __call__(self, belief: Belief, asked: Asked, questionnaire: Questionnaire, count: int) -> list[Choice]:
        """At most ``count`` questions of different prompts; fewer where the engine writes too little that tells.

        Raises the errors of ``Decoder`` where they come before the first question was written; ``PromptTooLong`` only
        where that leaves a caller's new questionnaire empty.
        """
        choices: list[Choice] = []
        too_long: PromptTooLong | None = None
        for prompt in self._prompts(questionnaire, asked)[: count + SPARE_PROMPTS]:
            try:
                choice = await self._write(prompt, belief, asked)
            except PromptTooLong as error:
                error.field, too_long = prompt.field, error
                continue
            except ENGINE_TROUBLE:
                if not choices:
                    raise
                break
            choices += [] if choice is None else [choice]
            if len(choices) == count:
                break
        if too_long is not None and too_long.field and not choices and not questionnaire.questions:
            raise too_long
        return choices

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

    async def _write(self, prompt: Prompt, belief: Belief, asked: Asked) -> Choice | None:
        """A question on ``prompt``; None where the candidates are alike, tell too little, or were compared before."""
        conversation = (Message("user", prompt.text),)
        drawn = await self.decoder.candidates(conversation, self.candidates, self._options())
        different = {one.text.strip(): one.basis_rewards for one in drawn.candidates if one.text.strip()}
        if len(different) < 2:
            return None
        telling = most_telling_pair(belief, np.stack(list(different.values())).astype(np.float64))
        texts = list(different)
        first, second = texts[telling.first], texts[telling.second]
        pair = CandidatePair(None, prompt.topic, prompt.id, prompt.text, first, second)
        if asked.compared(pair):
            return None
        rewards = np.asarray(await self.decoder.basis_rewards(conversation, [first, second]), dtype=np.float64)
        differences = rewards[0] - rewards[1]
        bits = float(expected_information_bits(belief, differences[None])[0])
        return None if bits < MINIMUM_INFORMATION_BITS else Choice(pair, tuple(differences.tolist()), bits)

    def _options(self) -> SamplingOptions:
        seed = int(self.rng.integers(LARGEST_SEED))
        return SamplingOptions(self.max_tokens, TEMPERATURE, TOP_P, seed, cacheable=False)


def _own_prompts(questionnaire: Questionnaire) -> list[Prompt]:
    """The caller's prompts, named by what they say so that repetitions are noticed in any questionnaire."""
    return [
        Prompt(f"own-{sha256(text.encode()).hexdigest()[:16]}", questionnaire.topic or "own", text, f"prompts.{index}")
        for index, text in enumerate(questionnaire.prompts)
    ]
