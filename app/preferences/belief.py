"""What every family of beliefs about a person's coefficients can do, as Protocols. Knows none of the families.

Whatever the family, the margin of a pair is believed to follow a mixture of Gaussians; predictions, the information
in a question and the ranking of candidates are computed from that alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel


@dataclass(frozen=True)
class Margins:
    """Margins of N pairs as mixtures of C Gaussians: shared ``weights`` (C,), ``means`` and ``variances`` (N, C).

    Means in log-odds, variances in squared log-odds (zero for a point); the weights add up to one.
    """

    weights: Float64[np.ndarray, " components"]
    means: Float64[np.ndarray, "pairs components"]
    variances: Float64[np.ndarray, "pairs components"]


@dataclass(frozen=True)
class FitReport:
    """How a fit ended; ``largest_gradient`` is the largest entry of the gradient in nats per unit of coefficient."""

    converged: bool
    iterations: int
    largest_gradient: float


@runtime_checkable
class Belief(Protocol):
    """A distribution over one person's coefficients (K,), in log-odds per unit of basis reward."""

    @property
    def size(self) -> int:
        """Number of basis rewards, K."""

    @property
    def mean(self) -> Float64[np.ndarray, " basis"]:
        """Expected coefficients (K,)."""

    def covariance(self) -> Float64[np.ndarray, "basis basis"]:
        """Covariance of the coefficients (K, K), symmetric and positive semi-definite."""

    def std(self) -> Float64[np.ndarray, " basis"]:
        """Standard deviation of each coefficient (K,)."""

    def project(
        self, rows: Float64[np.ndarray, "rows basis"]
    ) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """Mean and variance of ``rows @ coefficients``; raises ``ValueError`` if rows are not finite or not (N, K)."""

    def margins(self, rows: Float64[np.ndarray, "rows basis"]) -> Margins:
        """Distribution of ``rows @ coefficients``; memory grows with rows times components, so pass chunks."""

    def draw(self, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "draws basis"]:
        """``count`` coefficient vectors; advances ``rng``."""

    def moved(self, offset: Float64[np.ndarray, " basis"]) -> "Belief":
        """The same belief with ``offset`` added to every coefficient vector: a person's own adjustments."""


@runtime_checkable
class Prior(Protocol):
    """What people have in common: the belief about somebody who has answered nothing, and how answers change it."""

    @property
    def family(self) -> str:
        """Name of the family, as the artifact stores it."""

    @property
    def population(self) -> Belief:
        """Belief about a person of whom nothing is known."""

    def told(self, about: str | None) -> "Prior":
        """The prior of a person who wrote ``about`` of themselves; families that do not read it return themselves."""

    def condition(self, answers: Answers, response: ResponseModel) -> tuple[Belief, FitReport]:
        """Belief after ``answers``.

        The same bits for the same set of answers in any order and with any side shown first; with no informative
        answer, the population's belief.

        Raises:
            ValueError: If the answers are not finite, out of range, or disagree with the prior on K.
        """

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Everything needed to build the prior again, for the artifact."""


@runtime_checkable
class PriorFit(Protocol):
    """A family of priors, to be fitted on many people's answers."""

    @property
    def family(self) -> str:
        """Name of the family."""

    def __call__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,
        rng: np.random.Generator,
    ) -> Prior:
        """Fit by empirical Bayes; ``about`` has one entry a person, in the order of ``numpy.unique(people)``."""
