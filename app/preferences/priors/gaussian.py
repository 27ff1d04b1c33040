"""People whose coefficients follow one Gaussian: PReF's model, and the plainest of the families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.gaussian import Posterior
from app.preferences.population import fit_population
from app.preferences.posterior import fit_posterior


@dataclass(frozen=True)
class GaussianPrior:
    """Every person's coefficients are drawn from ``population``, a Gaussian in log-odds per unit of basis reward."""

    population: Posterior
    family: ClassVar[str] = "gaussian"

    def told(self, about: str | None) -> "GaussianPrior":  # noqa: ARG002 - this family does not read
        """The prior itself: this family does not read what people write of themselves."""
        return self

    def condition(self, answers: Answers, response: ResponseModel) -> tuple[Posterior, FitReport]:
        """Laplace approximation to the belief after ``answers``; the rest as ``posterior.fit_posterior``."""
        return fit_posterior(
            self.population, answers.differences, answers.first_preferred, weights=answers.weights, response=response
        )

    def arrays(self) -> Mapping[str, np.ndarray]:
        """``mean`` (K,) and ``precision`` (K, K)."""
        return {"mean": self.population.mean, "precision": self.population.precision}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "GaussianPrior":
        """The prior that ``arrays`` described; raises ``KeyError`` or ``ValueError`` if they describe none."""
        return cls(Posterior(arrays["mean"], arrays["precision"]))


@dataclass(frozen=True)
class GaussianFit:
    """Fits the Gaussian family by empirical Bayes, as ``population.fit_population`` does."""

    family: ClassVar[str] = "gaussian"

    def __call__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,  # noqa: ARG002 - every family is called alike
        rng: np.random.Generator,  # noqa: ARG002
    ) -> GaussianPrior:
        """The population's prior; ``about`` and ``rng`` are not used."""
        return GaussianPrior(fit_population(differences, first_preferred, people))
