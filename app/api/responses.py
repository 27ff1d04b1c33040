"""What our routes answer with, and how the use cases' results become it."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel

from app.entities import Comparison, Contribution, Question, StopReason, User
from app.services.delete_user import ErasureReceipt
from app.services.estimator import Estimate
from app.services.export_user import UserExport
from app.services.questionnaires import QuestionnaireState
from app.services.rank import Ranking
from app.services.respond import Explain, Response, ScoredCandidate


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


class RewardView(BaseModel):
    """A person's reward for a response, in log-odds."""

    mean: float
    std: float


class ContributionView(BaseModel):
    """One axis' part in the margin of a response."""

    label: str
    coefficient: float
    basis_reward: float
    contribution: float

    @classmethod
    def of_all(cls, contributions: Iterable[Contribution]) -> "list[ContributionView]":
        """The views of several."""
        return [cls(**asdict(contribution)) for contribution in contributions]


class CandidateView(BaseModel):
    """A candidate that was drawn, chosen or not."""

    index: int
    text: str
    reward: RewardView
    basis_rewards: list[float]
    tokens: int
    finish_reason: str

    @classmethod
    def of(cls, scored: ScoredCandidate) -> "CandidateView":
        """The view of a candidate."""
        candidate = scored.candidate
        return cls(
            index=scored.index,
            text=candidate.text,
            reward=RewardView(mean=scored.reward_mean, std=scored.reward_std),
            basis_rewards=candidate.basis_rewards.tolist(),
            tokens=candidate.tokens,
            finish_reason=candidate.finish_reason,
        )


class PersonalizationView(BaseModel):
    """How personal a response is, and why it was chosen."""

    mode_used: str
    basis_version: str
    n_candidates: int
    seed: int
    chosen: int
    reward: RewardView | None
    margin_vs_generic: float
    explanation: list[ContributionView]
    candidates: list[CandidateView] | None = None

    @classmethod
    def of(cls, response: Response, explain: Explain) -> "PersonalizationView":
        """The view of a response's choice, as detailed as the caller wants it."""
        best, personal = response.chosen[0], response.mode_used != "off"
        return cls(
            mode_used=response.mode_used,
            basis_version=response.basis_version,
            n_candidates=len(response.candidates),
            seed=response.seed,
            chosen=best.index,
            reward=RewardView(mean=best.reward_mean, std=best.reward_std) if personal else None,
            margin_vs_generic=response.margin_vs_generic,
            explanation=[] if explain == "none" else ContributionView.of_all(response.explanation),
            candidates=[CandidateView.of(item) for item in response.candidates] if explain == "full" else None,
        )


class TokenDetails(BaseModel):
    """Tokens of what came back, and of what was drawn only to choose from."""

    accepted_candidate_tokens: int
    rejected_candidate_tokens: int


class UsageView(BaseModel):
    """Tokens spent, those of candidates that were not chosen included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: TokenDetails

    @classmethod
    def of(cls, response: Response) -> "UsageView":
        """What a response cost."""
        return cls(
            prompt_tokens=response.prompt_tokens,
            completion_tokens=response.completion_tokens,
            total_tokens=response.prompt_tokens + response.completion_tokens,
            completion_tokens_details=TokenDetails(
                accepted_candidate_tokens=response.accepted_tokens,
                rejected_candidate_tokens=response.completion_tokens - response.accepted_tokens,
            ),
        )


class GenerationView(BaseModel):
    """A generated response."""

    id: str
    text: str
    finish_reason: str
    personalization: PersonalizationView
    usage: UsageView

    @classmethod
    def of(cls, response: Response, explain: Explain) -> "GenerationView":
        """The view of a response."""
        best = response.chosen[0].candidate
        return cls(
            id=response.id,
            text=best.text,
            finish_reason=best.finish_reason,
            personalization=PersonalizationView.of(response, explain),
            usage=UsageView.of(response),
        )


class RankedView(BaseModel):
    """A response with its reward; ``index`` is its place in the request."""

    index: int
    text: str
    reward: RewardView
    explanation: list[ContributionView]


class RankingView(BaseModel):
    """Responses best first."""

    basis_version: str
    responses: list[RankedView]

    @classmethod
    def of(cls, ranking: Ranking) -> "RankingView":
        """The view of a ranking."""
        return cls(
            basis_version=ranking.basis_version,
            responses=[
                RankedView(
                    index=item.position,
                    text=item.text,
                    reward=RewardView(mean=item.reward_mean, std=item.reward_std),
                    explanation=ContributionView.of_all(item.explanation),
                )
                for item in ranking.responses
            ],
        )


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
