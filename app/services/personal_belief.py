"""Whose coefficients answer a request: the person's, or the population's."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from app.entities import Basis, Contribution
from app.errors import UserNotFound
from app.ports import BasisRegistry
from app.preferences.belief import Belief
from app.preferences.choice import contributions
from app.services.estimate_preferences import EstimatePreferences

OnMissingUser = Literal["error", "prior"]


@dataclass(frozen=True)
class ServedBelief:
    """Belief to serve by, and whether the person agrees to being told from others."""

    belief: Belief
    basis: Basis
    consent: bool = True


@dataclass(frozen=True)
class PersonalBelief:
    """Find the belief for a request; someone unknown, or without consent, gets the population's."""

    registry: BasisRegistry
    estimate: EstimatePreferences

    async def __call__(self, user_id: str | None, on_missing_user: OnMissingUser = "error") -> ServedBelief:
        """The belief; raises ``UserNotFound`` unless the caller asked for the population's in that case."""
        basis = self.registry.basis
        if user_id is None:
            return ServedBelief(basis.prior.population, basis)
        try:
            estimate = await self.estimate(user_id)
        except UserNotFound:
            if on_missing_user == "error":
                raise
            return ServedBelief(basis.prior.population, basis)
        if not estimate.user.consent:
            return ServedBelief(estimate.basis.prior.population, estimate.basis, consent=False)
        return ServedBelief(estimate.belief, estimate.basis)


def explain(
    served: ServedBelief, chosen: Float64[np.ndarray, " basis"], baseline: Float64[np.ndarray, " basis"]
) -> tuple[Contribution, ...]:
    """Each axis' part in the margin of ``chosen`` over ``baseline``, the largest first."""
    parts = contributions(served.belief, chosen, baseline)
    found = [
        Contribution(axis.label, float(coefficient), float(reward), float(part))
        for axis, coefficient, reward, part in zip(served.basis.axes, served.belief.mean, chosen, parts, strict=True)
    ]
    return tuple(sorted(found, key=lambda contribution: -abs(contribution.contribution)))
