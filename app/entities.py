"""The nouns of the domain as frozen dataclasses. Knows no storage, no HTTP and no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from jaxtyping import Float64

from app.preferences.posterior import Posterior

Role = Literal["system", "user", "assistant"]
Preferred = Literal["first", "second", "tie"]
Answer = Literal["first", "second", "tie", "skip"]
StopReason = Literal["max_questions", "target_certainty", "low_information", "finished_by_caller", "pool_exhausted"]
Mode = Literal["off", "best_of_n", "auto"]
FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class User:
    """A person of a product; ``about`` is free text about them, ``consent`` False switches personalisation off."""

    id: str
    about: str | None
    consent: bool
    metadata: Mapping[str, object]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class CandidatePair:
    """Two responses to one prompt of the question pool; ``number`` is its row in ``QuestionPool.differences``."""

    number: int
    topic: str
    prompt_id: str
    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class QuestionPool:
    """All candidate pairs that may be asked, with their precomputed basis reward differences.

    ``differences`` (pairs, K) holds basis rewards of ``first`` minus ``second``, on ``basis_version``.
    """

    basis_version: str
    pairs: tuple[CandidatePair, ...]
    differences: Float64[np.ndarray, "pairs basis"]


@dataclass(frozen=True)
class Axis:
    """One basis reward in words: what a positive coefficient prefers, and what a negative one does."""

    index: int
    label: str
    high: str
    low: str


@dataclass(frozen=True)
class Basis:
    """What the service must know of an active set of K basis rewards; the heads live in the engine.

    ``exponent`` tempers the likelihood (calibration); ``reference`` (pairs, K) are differences between responses as
    the service really serves them, over which ``certainty`` is an average; ``certainty_scale`` corrects it to the
    accuracy realised on held-out people.
    """

    version: str
    model: str
    axes: tuple[Axis, ...]
    prior: Posterior
    exponent: float
    reference: Float64[np.ndarray, "pairs basis"]
    certainty_scale: float


@dataclass(frozen=True)
class Comparison:
    """An answered pair. ``differences`` (K,) are basis rewards of first minus second on ``basis_version``."""

    id: str
    user_id: str
    prompt: Conversation
    first: str
    second: str
    preferred: Preferred
    basis_version: str
    differences: tuple[float, ...]
    source: Literal["questionnaire", "api"]
    created_at: datetime
    question_id: str | None = None


@dataclass(frozen=True)
class Adjustment:
    """A person's own correction of one coefficient, in log-odds per unit of basis reward."""

    id: str
    user_id: str
    basis_version: str
    index: int
    delta: float
    created_at: datetime


@dataclass(frozen=True)
class Question:
    """A candidate pair as shown to one person; ``swapped`` tells that the pool's sides were exchanged."""

    id: str
    questionnaire_id: str
    position: int
    pair: CandidatePair
    swapped: bool
    expected_information_bits: float
    answer: Answer | None
    latency_ms: int | None

    @property
    def first(self) -> str:
        """The response on the first side as shown."""
        return self.pair.second if self.swapped else self.pair.first

    @property
    def second(self) -> str:
        """The response on the second side as shown."""
        return self.pair.first if self.swapped else self.pair.second


@dataclass(frozen=True)
class Questionnaire:
    """The sequence of questions put to one person, with its stopping rule."""

    id: str
    user_id: str
    basis_version: str
    max_questions: int
    target_certainty: float | None
    topic: str | None
    status: Literal["active", "complete"]
    stop_reason: StopReason | None
    questions: tuple[Question, ...]
    created_at: datetime

    @property
    def current(self) -> Question | None:
        """The question that waits for its answer."""
        return next((question for question in self.questions if question.answer is None), None)

    @property
    def answered(self) -> int:
        """Questions answered so far, skips included."""
        return sum(question.answer is not None for question in self.questions)


@dataclass(frozen=True)
class SamplingOptions:
    """How candidates are drawn. The same ``seed`` gives the same candidates, whatever ``n`` is.

    ``cacheable`` False tells that nobody can ask for the same again, so that an engine need not keep it.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...] = ()
    cacheable: bool = True


@dataclass(frozen=True)
class Candidate:
    """One completion with its basis rewards (K,), averaged over the response's tokens."""

    text: str
    tokens: int
    finish_reason: FinishReason
    basis_rewards: Float64[np.ndarray, " basis"]


@dataclass(frozen=True)
class CandidateSet:
    """The candidates of one prompt, in the order of their seeds, and what they cost."""

    candidates: tuple[Candidate, ...]
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Contribution:
    """One axis' part in the reward of a response relative to the generic one."""

    label: str
    coefficient: float
    basis_reward: float
    contribution: float


@dataclass(frozen=True)
class RankedResponse:
    """A response with a person's reward for it: mean and standard deviation in log-odds."""

    position: int
    text: str
    reward_mean: float
    reward_std: float
    explanation: tuple[Contribution, ...]
