"""Order responses that were written elsewhere by a person's reward."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.entities import Caller, Conversation, RankedResponse
from app.ports import Decoder
from app.preferences.choice import rank_candidates, reward_moments
from app.services.identifiers import tenant_of
from app.services.personal_belief import PersonalBelief, explain


@dataclass(frozen=True)
class Ranking:
    """Responses best first, on one basis."""

    basis_version: str
    responses: tuple[RankedResponse, ...]


@dataclass(frozen=True)
class RankResponses:
    """Rank given responses for a person; each is explained against the average of all."""

    belief: PersonalBelief
    decoder: Decoder

    async def __call__(self, user_id: str, conversation: Conversation, responses: Sequence[str]) -> Ranking:
        """The ranking; raises ``UserNotFound`` and the errors of ``Decoder.basis_rewards``."""
        served = await self.belief(user_id)
        caller = Caller(tenant_of(user_id))
        scored = await self.decoder.basis_rewards(conversation, responses, caller=caller)
        rewards = np.asarray(scored, dtype=np.float64)
        means, stds = reward_moments(served.belief, rewards)
        average = rewards.mean(axis=0)
        order = rank_candidates(served.belief, served.basis.prior.population, rewards)
        ranked = tuple(
            RankedResponse(
                position=position,
                text=responses[position],
                reward_mean=float(means[position]),
                reward_std=float(stds[position]),
                explanation=explain(served, rewards[position], average),
            )
            for position in order.tolist()
        )
        return Ranking(served.basis.version, ranked)
