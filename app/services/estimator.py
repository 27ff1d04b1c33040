"""From what a person said to a belief about their coefficients. Reads no storage and asks no engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

import numpy as np
import structlog
from jaxtyping import Float64

from app.entities import Basis, Comparison, Preferred, User
from app.errors import PosteriorNotConverged
from app.ports import BasisRegistry
from app.preferences.answers import Answers, recency_weights
from app.preferences.belief import Belief
from app.preferences.certainty import certainty
from app.preferences.gaussian import Posterior
from app.services.preference_log import PreferenceLog

log = structlog.get_logger("attune.estimator")

FIRST_PREFERRED: dict[Preferred, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Estimate:
    """Belief about one person's coefficients on one basis; ``version`` changes whenever the belief may."""

    user: User
    basis: Basis
    belief: Belief
    certainty: float
    comparisons: int
    version: str
    updated_at: datetime | None


@dataclass(frozen=True)
class Estimator:
    """Derives estimates on the active basis, afresh from all that a person said.

    With ``half_life_days``, a comparison counts half as much for every such time that passed between when it was made
    and when the newest of those used was: not until now, so that the same log gives the same bits at any time.
    """

    registry: BasisRegistry
    half_life_days: float | None = None

    def __call__(self, log: PreferenceLog) -> Estimate:
        """Condition what the person wrote of themselves on the log's comparisons, and add their own adjustments.

        Entries on another basis are left out: comparisons are re-scored before they get here, and an adjustment of an
        axis that is gone has no meaning.
        """
        basis = self.registry.basis
        used = [comparison for comparison in log.comparisons if comparison.basis_version == basis.version]
        belief = self._condition(log.user.about, self._answers(used))
        own = [(item.index, item.delta) for item in log.adjustments if item.basis_version == basis.version]
        belief = belief.moved(_offset(own, belief.size)) if own else belief
        return Estimate(
            user=log.user,
            basis=basis,
            belief=belief,
            certainty=certainty(belief, basis.reference, basis.certainty_curve),
            comparisons=len(log.comparisons),
            version=self.version(log.user, log.version),
            updated_at=log.updated_at,
        )

    def version(self, user: User, number: int) -> str:
        """Name of a state of the log; all else that the belief depends on makes it another one too."""
        parts = (self.registry.basis.version, user.created_at.isoformat(), user.about, self.half_life_days)
        return f"v{number}-{sha256(repr(parts).encode()).hexdigest()[:8]}"

    def _answers(self, comparisons: Sequence[Comparison]) -> Answers:
        differences = np.array([comparison.differences for comparison in comparisons], dtype=np.float64)
        rows = differences.reshape(-1, len(self.registry.basis.axes))
        first_preferred = np.array([FIRST_PREFERRED[comparison.preferred] for comparison in comparisons])
        if self.half_life_days is None or not comparisons:
            return Answers.of(rows, first_preferred)
        newest = max(comparison.created_at for comparison in comparisons)
        ages = np.array([(newest - comparison.created_at) / DAY for comparison in comparisons], dtype=np.float64)
        return Answers.of(rows, first_preferred, recency_weights(ages, self.half_life_days))

    def _condition(self, about: str | None, answers: Answers) -> Belief:
        """The belief; a Gaussian's problem is convex and must be solved, the others are served as far as they came."""
        basis = self.registry.basis
        belief, report = basis.prior.told(about).condition(answers, basis.response)
        if report.converged:
            return belief
        if isinstance(belief, Posterior):
            raise PosteriorNotConverged(
                f"The fit of {len(answers)} comparisons stopped at gradient {report.largest_gradient:g}."
            )
        log.warning(
            "fit_not_converged",
            family=basis.prior.family,
            comparisons=len(answers),
            gradient=report.largest_gradient,
        )
        return belief


def _offset(adjustments: Sequence[tuple[int, float]], size: int) -> Float64[np.ndarray, " basis"]:
    """The sum of a person's own corrections of each coefficient, in the order they were made."""
    offset = np.zeros(size)
    for index, delta in adjustments:
        offset[index] += delta
    return offset
