"""What our routes answer with, and how the use cases' results become it."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from app.entities import Comparison, Question, StopReason, User
from app.services.delete_user import ErasureReceipt
from app.services.estimator import Estimate
from app.services.export_user import UserExport
from app.services.questionnaires import QuestionnaireState


class UserView(BaseModel):
    """A person."""

    user_id: str
    about: str | None
    consent: bool
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> "UserView":
        """The view of a user."""
        return cls(
            user_id=user.id,
            about=user.about,
            consent=user.consent,
            metadata=dict(user.metadata),
            created_at=user.created_at,
            updated_at=user.updated_at,
        )


class ReceiptView(BaseModel):
    """Proof of an erasure."""

    user_id: str
    erased_at: datetime
    rows: dict[str, int]
    engine_forgot: bool

    @classmethod
    def of(cls, receipt: ErasureReceipt) -> "ReceiptView":
        """The view of a receipt."""
        return cls(**asdict(receipt))


class CoefficientView(BaseModel):
    """One coefficient; a positive one prefers ``high``, a negative one ``low``."""

    index: int
    label: str
    high: str
    low: str
    mean: float
    std: float
    population_mean: float


class PreferencesView(BaseModel):
    """What is believed about a person's taste."""

    user_id: str
    basis_version: str
    coefficients: list[CoefficientView]
    certainty: float
    comparisons: int
    updated_at: datetime | None

    @classmethod
    def of(cls, estimate: Estimate) -> "PreferencesView":
        """The view of an estimate."""
        belief, basis = estimate.belief, estimate.basis
        rows = zip(basis.axes, belief.mean, belief.std(), basis.prior.population.mean, strict=True)
        return cls(
            user_id=estimate.user.id,
            basis_version=basis.version,
            coefficients=[
                CoefficientView(**asdict(axis), mean=mean, std=std, population_mean=population)
                for axis, mean, std, population in rows
            ],
            certainty=estimate.certainty,
            comparisons=estimate.comparisons,
            updated_at=estimate.updated_at,
        )


class QuestionView(BaseModel):
    """Two responses to compare, as the person sees them."""

    id: str
    prompt: str
    first: str
    second: str
    expected_information_bits: float

    @classmethod
    def of(cls, question: Question) -> "QuestionView":
        """The view of a question."""
        return cls(
            id=question.id,
            prompt=question.pair.prompt,
            first=question.first,
            second=question.second,
            expected_information_bits=question.expected_information_bits,
        )


class ProgressView(BaseModel):
    """How far a questionnaire is."""

    answered: int
    expected_remaining: int
    certainty: float


class QuestionnaireView(BaseModel):
    """A questionnaire with its open questions, which may be answered in any order; ``question`` is their first.

    An active questionnaire has none where the engine failed to write the next: ``POST …/next`` asks it again, and so
    does the last answer, sent again.
    """

    id: str
    user_id: str
    status: Literal["active", "complete"]
    stop_reason: StopReason | None
    progress: ProgressView
    question: QuestionView | None
    questions: list[QuestionView]

    @classmethod
    def of(cls, state: QuestionnaireState) -> "QuestionnaireView":
        """The view of a questionnaire's state."""
        questionnaire, questions = state.questionnaire, [QuestionView.of(question) for question in state.questions]
        return cls(
            id=questionnaire.id,
            user_id=questionnaire.user_id,
            status=questionnaire.status,
            stop_reason=questionnaire.stop_reason,
            progress=ProgressView(
                answered=questionnaire.answered,
                expected_remaining=state.expected_remaining,
                certainty=state.certainty,
            ),
            question=next(iter(questions), None),
            questions=questions,
        )


class RecordedView(BaseModel):
    """A comparison that was stored."""

    id: str
    user_id: str


class ComparisonsView(BaseModel):
    """The comparisons that were stored, in the order they were sent."""

    comparisons: list[RecordedView]

    @classmethod
    def of(cls, comparisons: Iterable[Comparison]) -> "ComparisonsView":
        """The view of stored comparisons."""
        return cls(comparisons=[RecordedView(id=item.id, user_id=item.user_id) for item in comparisons])


class ExportView(BaseModel):
    """Everything that is stored about a person, and what is derived from it."""

    user: UserView
    preferences: PreferencesView
    covariance: list[list[float]]
    comparisons: list[dict[str, Any]]
    adjustments: list[dict[str, Any]]
    resets: list[datetime]
    questionnaires: list[dict[str, Any]]

    @classmethod
    def of(cls, export: UserExport) -> "ExportView":
        """The view of an export."""
        return cls(
            user=UserView.of(export.user),
            preferences=PreferencesView.of(export.estimate),
            covariance=export.estimate.belief.covariance().tolist(),
            comparisons=[asdict(item) for item in export.comparisons],
            adjustments=[asdict(item) for item in export.adjustments],
            resets=list(export.resets),
            questionnaires=[asdict(item) for item in export.questionnaires],
        )
