"""What the use cases need from the outside, as Protocols. Adapters implement them; services import only these."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from app.entities import (
    ANYBODY,
    Adjustment,
    Basis,
    Caller,
    CandidateSet,
    Comparison,
    Conversation,
    DecodingSpeed,
    FrontierPoint,
    Question,
    Questionnaire,
    QuestionPool,
    SamplingOptions,
    Steering,
    SteeringKind,
    User,
)
from app.preferences.pool_index import PoolIndex


class Decoder(Protocol):
    """The inference engine: one language model with its basis reward heads. Knows nothing of users.

    Errors of all methods: ``PromptTooLong`` before any work; ``EngineOverloaded`` when the queue is full;
    ``EngineTimeout`` after the deadline; ``NonFiniteReward``; ``Unavailable`` while the engine loads, closes or cannot
    be reached. Where what reads the rewards has less context than what generates, candidates come with the rewards of
    as much of each text as fits; ``basis_rewards`` never leaves out a part of a text.

    Cancelling a call, or closing its iterator, frees its place and ends its decoding at the next step.
    """

    @property
    def model(self) -> str:
        """Name of the base model, as ``/v1/models`` lists it."""

    @property
    def basis_version(self) -> str:
        """Version of the basis reward heads that are loaded."""

    @property
    def steering(self) -> frozenset[SteeringKind]:
        """The kinds of steering that it can do; others raise ``GuidanceUnavailable``."""

    @property
    def speed(self) -> DecodingSpeed | None:
        """How fast it decodes, as measured lately; None before anything was measured."""

    async def candidates(
        self,
        conversation: Conversation,
        n: int,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> CandidateSet:
        """Draw ``n`` completions of ``conversation`` with their basis rewards, from one prefill.

        Candidate ``i`` depends on ``options.seed`` and ``i`` alone (and on ``steering``), so the first of many is the
        only one of one. Raises ``InvalidInput`` for coefficients of another length than K.
        """

    def stream(
        self,
        conversation: Conversation,
        options: SamplingOptions,
        *,
        steering: Steering | None = None,
        caller: Caller = ANYBODY,
    ) -> AsyncGenerator[str | CandidateSet, None]:
        """One completion as it is written: pieces of text, then the set that ``candidates`` with n=1 would return.

        The pieces together are the candidate's text.
        """

    async def basis_rewards(
        self, conversation: Conversation, responses: Sequence[str], *, caller: Caller = ANYBODY
    ) -> Float64[np.ndarray, "responses basis"]:
        """Basis rewards of texts written elsewhere, each averaged over the response's tokens."""

    async def ready(self) -> bool:
        """Whether the model is loaded and warmed up."""

    async def forget(self) -> None:
        """Drop every text and prompt kept for reuse; nothing that is being decoded."""


class UserRepository(Protocol):
    """Users by id."""

    async def get(self, user_id: str, *, for_update: bool = False) -> User:
        """The user, locked until the end of the transaction if asked; raises ``UserNotFound``."""

    async def find(self, user_id: str, *, for_update: bool = False) -> User | None:
        """The user, locked until the end of the transaction if asked, or None."""

    async def add(self, user: User) -> bool:
        """Insert unless the id is taken; waits for somebody else who inserts it. Returns whether it was inserted."""

    async def change(self, user: User) -> None:
        """Replace a user that was read for update in this transaction; raises ``UserNotFound``."""

    async def delete(self, user_id: str) -> dict[str, int]:
        """Erase the user and everything that hangs on it; returns the rows removed by table."""


class PreferenceRepository(Protocol):
    """The append-only log that a person's coefficients are derived from, in the order it was written."""

    async def add_comparisons(self, comparisons: Sequence[Comparison]) -> None:
        """Append."""

    async def comparisons(self, user_id: str, *, since_reset: bool = True) -> list[Comparison]:
        """All since the last reset, or all there ever were, oldest first."""

    async def rescore(self, comparisons: Sequence[Comparison]) -> None:
        """Replace ``differences`` and ``basis_version`` of stored comparisons: both are derived from their texts."""

    async def add_adjustments(self, adjustments: Sequence[Adjustment]) -> None:
        """Append."""

    async def adjustments(self, user_id: str, *, since_reset: bool = True) -> list[Adjustment]:
        """All since the last reset, or all there ever were, oldest first."""

    async def reset(self, user_id: str, at: datetime) -> None:
        """Leave everything written so far out of later reads; nothing is deleted."""

    async def resets(self, user_id: str) -> list[datetime]:
        """When the user's preferences were reset, oldest first."""

    async def version(self, user_id: str) -> int:
        """A number that grows with every write for this user (0: none yet)."""


class QuestionnaireRepository(Protocol):
    """Questionnaires with their questions."""

    async def get(self, questionnaire_id: str, *, for_update: bool = False) -> Questionnaire:
        """The questionnaire, locked until the end of the transaction if asked; raises ``QuestionnaireNotFound``."""

    async def add(self, questionnaire: Questionnaire) -> None:
        """Insert, with its questions."""

    async def add_question(self, question: Question) -> None:
        """Append a question; (questionnaire, position) is unique."""

    async def answer(self, question: Question) -> None:
        """Store ``question.answer`` and ``question.latency_ms``; raises ``QuestionAlreadyAnswered``."""

    async def finish(self, questionnaire: Questionnaire) -> None:
        """Store ``status`` and ``stop_reason``."""

    async def of_user(self, user_id: str) -> list[Questionnaire]:
        """All of a user's questionnaires, oldest first (for export)."""

    async def questions_of_user(self, user_id: str) -> list[Question]:
        """The questions of all of a user's questionnaires, in the order of ``of_user``."""


class UnitOfWork(Protocol):
    """One transaction. Leaving it without ``commit`` rolls back."""

    users: UserRepository
    preferences: PreferenceRepository
    questionnaires: QuestionnaireRepository

    async def commit(self) -> None:
        """Make everything written in this unit durable."""


class BeginUnitOfWork(Protocol):
    """Starts a transaction; raises ``StorageUnavailable`` where the database cannot be used."""

    def __call__(self, *, read_only: bool = False) -> AbstractAsyncContextManager[UnitOfWork]:
        """A unit of work; a read-only one sees one consistent snapshot and waits for no writer."""


class Clock(Protocol):
    """The current time, in UTC."""

    def __call__(self) -> datetime:
        """Now."""


class BasisRegistry(Protocol):
    """The active basis and its question pool."""

    @property
    def basis(self) -> Basis:
        """The active basis."""

    @property
    def pool(self) -> QuestionPool:
        """The question pool, scored on the active basis."""

    @property
    def index(self) -> PoolIndex:
        """The pool's pairs, prepared once for every choice of a question."""

    @property
    def frontier(self) -> Sequence[FrontierPoint]:
        """The ways to answer that were measured on this basis' model, cost and win rate; empty before any was."""
