"""The nouns of the domain as frozen dataclasses. Knows no storage, no HTTP and no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior
from app.preferences.certainty import CertaintyCurve

Role = Literal["system", "user", "assistant"]
Preferred = Literal["first", "second", "tie"]
Answer = Literal["first", "second", "tie", "skip"]
QuestionSource = Literal["pool", "generated", "auto"]
StopReason = Literal["max_questions", "target_certainty", "low_information", "finished_by_caller", "pool_exhausted"]
Mode = Literal["off", "best_of_n", "guided", "auto"]
FinishReason = Literal["stop", "length", "dropped"]
Guidance = Literal["none", "token", "block"]
SteeringKind = Literal["token", "block", "early_stopping"]


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


PairKey = tuple[str, str, str]


@dataclass(frozen=True)
class CandidatePair:
    """Two responses to one prompt; ``number`` is its row in ``QuestionPool.differences``, None if it was generated."""

    number: int | None
    topic: str
    prompt_id: str
    prompt: str
    first: str
    second: str

    @property
    def key(self) -> PairKey:
        """What makes it the same question on any basis and in any pool."""
        return self.prompt_id, self.first, self.second


@dataclass(frozen=True)
class QuestionPool:
    """All candidate pairs that may be asked, with their precomputed basis reward differences.

    ``differences`` (pairs, K) holds basis rewards of ``first`` minus ``second``, on ``basis_version``. The other
    arrays are derived from the pairs at their first use, so that choosing a question loops over no pair.
    """

    basis_version: str
    pairs: tuple[CandidatePair, ...]
    differences: Float64[np.ndarray, "pairs basis"]

    @cached_property
    def rows(self) -> Mapping[PairKey, int]:
        """The row of each pair."""
        return {pair.key: row for row, pair in enumerate(self.pairs)}

    @cached_property
    def prompt_codes(self) -> Mapping[str, int]:
        """A number for each prompt's id, counted from zero in the order of the pairs."""
        return {prompt_id: code for code, prompt_id in enumerate(dict.fromkeys(pair.prompt_id for pair in self.pairs))}

    @cached_property
    def topic_codes(self) -> Mapping[str, int]:
        """A number for each topic, counted from zero in alphabetical order."""
        return {topic: code for code, topic in enumerate(sorted({pair.topic for pair in self.pairs}))}

    @cached_property
    def prompts(self) -> Int64[np.ndarray, " pairs"]:
        """The code of each pair's prompt."""
        return np.array([self.prompt_codes[pair.prompt_id] for pair in self.pairs], dtype=np.int64)

    @cached_property
    def prompt_rows(self) -> Int64[np.ndarray, " prompts"]:
        """The first row of each prompt, by its code."""
        return np.unique(self.prompts, return_index=True)[1]

    @cached_property
    def topics(self) -> Int64[np.ndarray, " pairs"]:
        """The code of each pair's topic."""
        return np.array([self.topic_codes[pair.topic] for pair in self.pairs], dtype=np.int64)


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

    ``prior`` is what people have in common and ``response`` how their answers follow from margins. ``reference``
    (pairs, K) are differences between responses as the service really serves them, over which ``certainty`` is an
    average; ``certainty_curve`` corrects it to the accuracy realised on held-out people. ``candidate_sets``
    (sets, n, K) are rewards of responses among which the service chose one; there may be none.
    """

    version: str
    model: str
    axes: tuple[Axis, ...]
    prior: Prior
    response: ResponseModel
    reference: Float64[np.ndarray, "pairs basis"]
    certainty_curve: CertaintyCurve
    candidate_sets: Float64[np.ndarray, "sets candidates basis"]


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
    """A candidate pair as shown to one person; ``swapped`` tells that the pair's sides were exchanged.

    ``differences`` (K,) are the pair's basis rewards, first minus second before any exchange, on ``basis_version``.
    Questions from before these were kept have none and an empty version.
    """

    id: str
    questionnaire_id: str
    position: int
    pair: CandidatePair
    swapped: bool
    expected_information_bits: float
    answer: Answer | None
    latency_ms: int | None
    basis_version: str
    differences: tuple[float, ...]

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
    """The sequence of questions put to one person, with its stopping rule.

    ``batch_size`` questions are asked at once; ``source`` tells where they come from, and ``prompts`` which texts the
    engine writes them for, if not those of the pool.
    """

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
    batch_size: int = 1
    source: QuestionSource = "pool"
    prompts: tuple[str, ...] = ()

    @property
    def open(self) -> tuple[Question, ...]:
        """The questions that wait for their answers."""
        return tuple(question for question in self.questions if question.answer is None)

    @property
    def answered(self) -> int:
        """Questions answered so far, skips included."""
        return sum(question.answer is not None for question in self.questions)

    @property
    def next_batch(self) -> int:
        """How many questions may follow at once."""
        return min(self.batch_size, self.max_questions - len(self.questions))


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
class Steering:
    """How one person's reward acts while candidates are written: all that an engine ever knows of a person.

    ``coefficients`` (K,) are in log-odds per unit of basis reward. ``guidance`` "token" tilts every next-token
    distribution by ``strength`` times the tokens' values under the coefficients; "block" lets each candidate go on
    with the best of ``continuations`` blocks of ``block_tokens`` tokens. ``drop_below`` above 0 stops a candidate whose
    chance of becoming the best of its set falls below it. With strength 0 and nothing dropped, the candidates are those
    of plain sampling, bit for bit.
    """

    coefficients: tuple[float, ...]
    guidance: Guidance = "none"
    strength: float = 1.0
    block_tokens: int = 16
    continuations: int = 4
    drop_below: float = 0.0

    @property
    def kinds(self) -> frozenset[SteeringKind]:
        """What an engine must be able to do for it."""
        guided: frozenset[SteeringKind] = frozenset() if self.guidance == "none" else frozenset({self.guidance})
        return guided | ({"early_stopping"} if self.drop_below > 0 else frozenset())


@dataclass(frozen=True)
class Caller:
    """Whose turn a request takes in an engine's queue, which is shared evenly by ``tenant``, and how long it may take.

    Without ``timeout_seconds``, the engine's own deadline holds; a longer one is cut to it.
    """

    tenant: str = ""
    timeout_seconds: float | None = None


ANYBODY = Caller()


@dataclass(frozen=True)
class DecodingSpeed:
    """What a decoding step took lately, in seconds: ``step`` and ``row`` more for each candidate decoded together."""

    step: float
    row: float

    def seconds(self, rows: int, tokens: int) -> float:
        """Seconds that ``rows`` candidates of ``tokens`` tokens take together."""
        return tokens * (self.step + self.row * rows)


@dataclass(frozen=True)
class FrontierPoint:
    """One way to answer, with what it was measured to be worth.

    ``cost`` counts generated tokens for each token of a plain answer, and ``win_rate`` is the share of prompts at
    which people prefer it to a plain answer, draws counting one half.
    """

    name: str
    mode: Literal["off", "best_of_n", "guided"]
    n: int
    guidance: Guidance
    drop_below: float
    cost: float
    win_rate: float


@dataclass(frozen=True)
class Candidate:
    """One completion with its basis rewards (K,), averaged over the response's tokens.

    A "dropped" one was stopped early: its text is a beginning, and its basis rewards are those predicted for the whole.
    """

    text: str
    tokens: int
    finish_reason: FinishReason
    basis_rewards: Float64[np.ndarray, " basis"]


@dataclass(frozen=True)
class CandidateSet:
    """The candidates of one prompt, in the order of their seeds, and what they cost.

    ``completion_tokens`` counts all that was generated; ``discarded_tokens`` of them are in dropped candidates or in
    blocks that no candidate went on with. ``reused_tokens`` of the prompt were known from an earlier one.
    """

    candidates: tuple[Candidate, ...]
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int = 0
    reused_tokens: int = 0


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
