"""Generate a response: chosen from several candidates by a person's reward, guided by it while written, or neither."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

import numpy as np

from app.entities import (
    Caller,
    Candidate,
    CandidateSet,
    Contribution,
    Conversation,
    Guidance,
    SamplingOptions,
)
from app.errors import AttuneError
from app.ports import Clock, Decoder
from app.preferences.choice import draw_order, kl_bound, rank_candidates, reward_moments, soft_kl
from app.services.identifiers import new_id, tenant_of
from app.services.modes import Abilities, Personalization, Plan, Sampling, UsedMode, make_plan
from app.services.personal_belief import PersonalBelief, ServedBelief, explain

LARGEST_SEED = 2**31
CHOICE_STREAM = 1  # keeps the draw among candidates apart from the draws of their words


@dataclass(frozen=True)
class ScoredCandidate:
    """A candidate with the person's reward for it; ``index`` is its place in the order of drawing."""

    index: int
    candidate: Candidate
    reward_mean: float
    reward_std: float


@dataclass(frozen=True)
class Response:
    """What was generated, best first, and why. Without personalisation there are no rewards to tell.

    ``margin_vs_generic`` is the chosen response's reward over that of the plain answer to the same seed, in log-odds;
    None where no plain answer was drawn, and then ``explanation`` tells parts of the reward itself; ``not_compared`` is
    what went wrong where one should have been. With
    ``generic_estimated`` that answer was stopped early and its reward is a prediction. ``kl_bound`` and ``soft_kl`` are
    in nats, None for guided candidates.
    """

    id: str
    mode_used: UsedMode
    basis_version: str
    seed: int
    chosen: tuple[ScoredCandidate, ...]
    candidates: tuple[ScoredCandidate, ...]
    margin_vs_generic: float | None
    explanation: tuple[Contribution, ...]
    prompt_tokens: int
    completion_tokens: int
    discarded_tokens: int = 0
    reused_tokens: int = 0
    generic_estimated: bool = False
    guidance: Guidance = "none"
    strength: float = 1.0
    kl_bound: float | None = None
    soft_kl: float | None = None
    reason: str | None = None
    not_compared: str | None = None

    @property
    def accepted_tokens(self) -> int:
        """Tokens of the candidates that come back; the others' were spent on choosing."""
        return sum(scored.candidate.tokens for scored in self.chosen)

    @property
    def dropped(self) -> int:
        """Candidates that were stopped early."""
        return sum(scored.candidate.finish_reason == "dropped" for scored in self.candidates)


@dataclass(frozen=True)
class Job:
    """A request on its way: whose belief serves it, and what the engine is asked for."""

    id: str
    conversation: Conversation
    wanted: Personalization
    count: int
    served: ServedBelief
    plan: Plan
    options: SamplingOptions
    caller: Caller

    @property
    def needs_generic(self) -> bool:
        """Whether a plain answer is drawn only to compare with: where all is guided, and all is to be explained."""
        return self.plan.mode == "guided" and self.wanted.explain == "full"


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

        Raises ``UserNotFound``, ``GuidanceUnavailable`` for a way of guidance that the engine does not have,
        ``InvalidInput`` where more responses than candidates are asked for, and the errors of ``Decoder.candidates``.
        """
        job = await self.prepare(conversation, personalization, sampling)
        plan = job.plan
        drawn = await self.decoder.candidates(
            conversation, plan.n, job.options, steering=plan.steering, caller=job.caller
        )
        return await self.finish(job, drawn)

    async def prepare(self, conversation: Conversation, personalization: Personalization, sampling: Sampling) -> Job:
        """Decide how to answer; raises what is wrong with the request before any decoding."""
        served = await self.belief(personalization.user_id, personalization.on_missing_user)
        engine = Abilities(self.decoder.steering, self.decoder.speed, self.belief.registry.frontier)
        return Job(
            id=new_id("gen", self.clock()),
            conversation=conversation,
            wanted=personalization,
            count=sampling.count,
            served=served,
            plan=make_plan(personalization, sampling, served, engine),
            options=self._options(sampling),
            caller=Caller(tenant_of(personalization.user_id)),
        )

    async def finish(self, job: Job, drawn: CandidateSet) -> Response:
        """Choose among what was drawn; draws a plain answer more where it is to be compared with one.

        What is ready is not lost where the plain answer fails: the response then says why it is compared with none.
        """
        generic: CandidateSet | None = None
        failed: AttuneError | None = None
        if job.needs_generic:
            try:
                generic = await self.decoder.candidates(job.conversation, 1, job.options, caller=job.caller)
            except AttuneError as error:
                failed = error
        return replace(_response(job, drawn, generic), not_compared=failed.message if failed else None)

    def _options(self, sampling: Sampling) -> SamplingOptions:
        return SamplingOptions(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=int(self.rng.integers(LARGEST_SEED)) if sampling.seed is None else sampling.seed,
            stop=sampling.stop,
            cacheable=sampling.seed is not None,
        )


def _response(job: Job, drawn: CandidateSet, generic: CandidateSet | None) -> Response:
    plan, served = job.plan, job.served
    scored = _score(served, drawn.candidates)
    order, entropy = (range(len(scored)), None) if plan.mode == "off" else _order(job, scored)
    chosen = tuple(scored[index] for index in order)[: job.count]
    against = _compared_with(plan, drawn, generic)
    best, personal = chosen[0].candidate.basis_rewards, plan.mode != "off"
    baseline = np.zeros_like(best) if against is None else against.basis_rewards
    parts = explain(served, best, baseline) if personal else ()
    plain = plan.mode == "best_of_n"
    return Response(
        id=job.id,
        mode_used=plan.mode,
        basis_version=served.basis.version,
        seed=job.options.seed,
        chosen=chosen,
        candidates=scored,
        margin_vs_generic=None if against is None else fsum(part.contribution for part in parts),
        explanation=parts,
        prompt_tokens=drawn.prompt_tokens,
        completion_tokens=drawn.completion_tokens + (generic.completion_tokens if generic else 0),
        discarded_tokens=drawn.discarded_tokens,
        reused_tokens=drawn.reused_tokens,
        generic_estimated=against is not None and against.finish_reason == "dropped",
        guidance=plan.guidance,
        strength=job.wanted.strength if personal else 0.0,
        kl_bound=kl_bound(plan.n) if plain else None,
        soft_kl=soft_kl(plan.n, entropy) if plain and entropy is not None else None,
        reason=plan.reason,
    )


def _compared_with(plan: Plan, drawn: CandidateSet, generic: CandidateSet | None) -> Candidate | None:
    """The plain answer to the same seed: the first candidate, unless it was guided itself."""
    if generic is not None:
        return generic.candidates[0]
    return None if plan.mode == "guided" else drawn.candidates[0]


def _score(served: ServedBelief, candidates: Sequence[Candidate]) -> tuple[ScoredCandidate, ...]:
    means, stds = reward_moments(served.belief, np.stack([candidate.basis_rewards for candidate in candidates]))
    return tuple(
        ScoredCandidate(index, candidate, float(mean), float(std))
        for index, (candidate, mean, std) in enumerate(zip(candidates, means, stds, strict=True))
    )


def _order(job: Job, scored: Sequence[ScoredCandidate]) -> tuple[list[int], float | None]:
    """Finished candidates by the cautious bound of the person's margin, the first being the one to choose.

    With a choice temperature, in an order drawn by these bounds from the request's seed, and the draw's entropy.
    """
    finished = [item.index for item in scored if item.candidate.finish_reason != "dropped"]
    rewards = np.stack([scored[index].candidate.basis_rewards for index in finished])
    belief, population = job.served.belief, job.served.basis.prior.population
    strength, temperature = job.wanted.strength, job.wanted.choice_temperature
    if temperature == 0.0:
        ranked = rank_candidates(belief, population, rewards, strength=strength)
        return [finished[place] for place in ranked.tolist()], None
    rng = np.random.default_rng([job.options.seed, CHOICE_STREAM])
    drawn = draw_order(belief, population, rewards, strength=strength, temperature=temperature, rng=rng)
    return [finished[place] for place in drawn.order.tolist()], drawn.entropy
