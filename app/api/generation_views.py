"""What generations and rankings are answered with: texts, why they were chosen, and what they cost."""

from collections.abc import Iterable
from dataclasses import asdict

from pydantic import BaseModel

from app.entities import Contribution
from app.services.modes import Explain
from app.services.rank import Ranking
from app.services.respond import Response, ScoredCandidate

NOT_COMPARED = "No plain answer was drawn to compare with; it is with explain: full."
COMPARISON_FAILED = "The plain answer to compare with could not be drawn: {}"


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
    """How personal a response is, and why it was chosen.

    ``margin_vs_generic`` is null where no plain answer was drawn to compare with, as ``note`` says; ``explanation``
    then adds up to the reward itself. ``generic_estimated``: the plain answer was stopped early, and its reward is a
    prediction. ``kl_bound`` (nats) limits how far the choice among candidates leaves the model; ``soft_kl`` limits it
    too, in the mean over requests. ``reason`` says why this mode was used. ``tokens_generated`` are all,
    ``tokens_discarded`` those of them that no finished candidate has.
    """

    mode_used: str
    basis_version: str
    n_candidates: int
    seed: int
    chosen: int
    strength: float
    guidance: str | None
    reward: RewardView | None
    margin_vs_generic: float | None
    generic_estimated: bool
    note: str | None
    kl_bound: float | None
    soft_kl: float | None
    reason: str | None
    tokens_generated: int
    tokens_discarded: int
    candidates_dropped: int
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
            strength=response.strength,
            guidance=None if response.guidance == "none" else response.guidance,
            reward=RewardView(mean=best.reward_mean, std=best.reward_std) if personal else None,
            margin_vs_generic=response.margin_vs_generic,
            generic_estimated=response.generic_estimated,
            note=_note(response),
            kl_bound=response.kl_bound,
            soft_kl=response.soft_kl,
            reason=response.reason,
            tokens_generated=response.completion_tokens,
            tokens_discarded=response.discarded_tokens,
            candidates_dropped=response.dropped,
            explanation=[] if explain == "none" else ContributionView.of_all(response.explanation),
            candidates=[CandidateView.of(item) for item in response.candidates] if explain == "full" else None,
        )


def _note(response: Response) -> str | None:
    """Why there is no margin over the plain answer, where there is none."""
    if response.not_compared is not None:
        return COMPARISON_FAILED.format(response.not_compared)
    return NOT_COMPARED if response.margin_vs_generic is None else None


class TokenDetails(BaseModel):
    """Tokens of what came back, and of what was drawn only to choose from."""

    accepted_candidate_tokens: int
    rejected_candidate_tokens: int


class PromptDetails(BaseModel):
    """Tokens of the prompt that were known from an earlier one."""

    cached_tokens: int


class UsageView(BaseModel):
    """Tokens spent, those of candidates that were not chosen included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: TokenDetails
    prompt_tokens_details: PromptDetails

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
            prompt_tokens_details=PromptDetails(cached_tokens=response.reused_tokens),
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
