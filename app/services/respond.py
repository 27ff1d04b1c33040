"""Generate a response, chosen from several candidates by a person's reward."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.entities import Candidate, CandidateSet, Contribution, Conversation, Mode, SamplingOptions
from app.errors import InvalidInput
from app.ports import Clock, Decoder
from app.preferences.choice import rank_candidates, reward_moments
from app.services.identifiers import new_id
from app.services.personal_belief import OnMissingUser, PersonalBelief, ServedBelief, explain

DEFAULT_CANDIDATES = 16
LARGEST_SEED = 2**31

Explain = Literal["none", "summary", "full"]
UsedMode = Literal["off", "best_of_n"]


@dataclass(frozen=True)
class Personalization:
    """How far, and for whom, the response is to be personal."""

    user_id: str | None = None
    mode: Mode = "auto"
    n_candidates: int | None = None
    strength: float = 1.0
    explain: Explain = "summary"
    on_missing_user: OnMissingUser = "error"


@dataclass(frozen=True)
class Sampling:
    """How candidates are drawn; without a ``seed``, by a random one. ``count`` responses come back."""

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None = None
    stop: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate with the person's reward for it; ``index`` is its place in the order of drawing."""

    index: int
    candidate: Candidate
    reward_mean: float
    reward_std: float


@dataclass(frozen=True)
class Response:
    """What was generated, best first, and why. Without personalisation there are no rewards to tell."""

    id: str
    mode_used: UsedMode
    basis_version: str
    seed: int
    chosen: tuple[ScoredCandidate, ...]
    candidates: tuple[ScoredCandidate, ...]
    margin_vs_generic: float
    explanation: tuple[Contribution, ...]
    prompt_tokens: int
    completion_tokens: int

    @property
    def accepted_tokens(self) -> int:
        """Tokens of the candidates that come back; the others' were spent on choosing."""
        return sum(scored.candidate.tokens for scored in self.chosen)


@dataclass(frozen=True)
class Respond:
    """Draw candidates in one engine call and return the ones a person likes best."""

    belief: PersonalBelief
    decoder: Decoder
    clock: Clock
    rng: np.random.Generator

    async def __call__(
        self, conversation: Conversation, personalization: Personalization, sampling: Sampling
    ) -> Response:
        """The response.

        Raises ``UserNotFound``, ``InvalidInput`` where more responses than candidates are asked for, and the errors
        of ``Decoder.candidates``.
        """
        served = await self.belief(personalization.user_id, personalization.on_missing_user)
        mode = _mode(personalization, served)
        n = _candidate_count(mode, personalization.n_candidates, sampling.count)
        options = self._options(sampling)
        drawn = await self.decoder.candidates(conversation, n, options)
        scored = _score(served, drawn.candidates)
        order = range(sampling.count) if mode == "off" else _best_first(served, scored, personalization.strength)
        chosen = tuple(scored[index] for index in order)[: sampling.count]
        return self._response(served, mode, options.seed, drawn, scored, chosen)

    def _options(self, sampling: Sampling) -> SamplingOptions:
        return SamplingOptions(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=int(self.rng.integers(LARGEST_SEED)) if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
            cacheable=sampling.seed is not None,
        )

    def _response(
        self,
        served: ServedBelief,
        mode: UsedMode,
        seed: int,
        drawn: CandidateSet,
        scored: tuple[ScoredCandidate, ...],
        chosen: tuple[ScoredCandidate, ...],
    ) -> Response:
        best, generic = chosen[0], scored[0]
        personal = mode != "off"
        rewards = best.candidate.basis_rewards, generic.candidate.basis_rewards
        return Response(
            id=new_id("gen", self.clock()),
            mode_used=mode,
            basis_version=served.basis.version,
            seed=seed,
            chosen=chosen,
            candidates=scored,
            margin_vs_generic=best.reward_mean - generic.reward_mean if personal else 0.0,
            explanation=explain(served, *rewards) if personal else (),
            prompt_tokens=drawn.prompt_tokens,
            completion_tokens=drawn.completion_tokens,
        )


def _mode(personalization: Personalization, served: ServedBelief) -> UsedMode:
    """The mode to use: nobody is personalised against their will, and strength 0 means not at all."""
    off = personalization.mode == "off" or personalization.strength == 0.0 or not served.consent
    return "off" if off else "best_of_n"


def _candidate_count(mode: UsedMode, requested: int | None, count: int) -> int:
    """How many candidates to draw: just what comes back where nothing is chosen."""
    if mode == "off":
        return count
    if requested is not None and requested < count:
        raise InvalidInput(f"n is {count}, more than n_candidates, {requested}; raise n_candidates.", field="n")
    return max(requested or DEFAULT_CANDIDATES, count)


def _score(served: ServedBelief, candidates: Sequence[Candidate]) -> tuple[ScoredCandidate, ...]:
    means, stds = reward_moments(served.belief, np.stack([candidate.basis_rewards for candidate in candidates]))
    return tuple(
        ScoredCandidate(index, candidate, float(mean), float(std))
        for index, (candidate, mean, std) in enumerate(zip(candidates, means, stds, strict=True))
    )


def _best_first(served: ServedBelief, scored: Sequence[ScoredCandidate], strength: float) -> list[int]:
    """All candidates by the cautious bound of the person's margin: the first is the one to choose."""
    rewards = np.stack([item.candidate.basis_rewards for item in scored])
    ranked = rank_candidates(served.belief, served.basis.prior.population, rewards, strength=strength)
    return [int(index) for index in ranked]
