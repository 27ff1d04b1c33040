"""People of a few kinds: a mixture of Gaussians over coefficients, as P-RLHF's clusters but with spread inside each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.gaussian import Posterior
from app.preferences.people import PeopleFit, PeopleProblem
from app.preferences.population import fit_population, maximise
from app.preferences.posterior import canonical, check_answers
from app.preferences.priors.components import Components, factor_of, normalised, update_gaussians

COUNTS = (1, 2, 3, 4)
ROUNDS = 15
GAUSSIAN_ROUNDS = 50  # of the single Gaussian that everything starts from
SMALLEST_SHARE = 1e-12  # of a person in a component: keeps an empty component defined
SETTLED = 1e-3  # nats a person: a smaller gain in evidence ends the rounds
SHRINKAGE = 5.0  # imagined people spread alike in every direction, a component
HELD_OUT = 0.25  # of the people: judge the number of components
FEWEST_PEOPLE = 12  # of whom kinds may be told apart
ALONE = FitReport(converged=True, iterations=0, largest_gradient=0.0)


@dataclass(frozen=True, eq=False)
class MixturePrior:
    """Coefficients follow one of C Gaussians, ``weights`` (C,), ``means`` (C, K) and ``precisions`` (C, K, K).

    Raises:
        ValueError: If the shapes disagree, an entry is not finite, the weights are no distribution, or a precision is
            not positive definite.
    """

    weights: Float64[np.ndarray, " components"]
    means: Float64[np.ndarray, "components basis"]
    precisions: Float64[np.ndarray, "components basis basis"]
    family: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        _ = self.population  # fails here and not at its first use

    @cached_property
    def population(self) -> Components:
        """The mixture itself."""
        try:
            return Components(self.weights, self.means, factor_of(self.precisions))
        except np.linalg.LinAlgError as error:
            raise ValueError("A precision is not positive definite; give every direction some precision.") from error

    def told(self, about: str | None) -> "MixturePrior":  # noqa: ARG002 - this family does not read
        """The prior itself: this family does not read what people write of themselves."""
        return self

    def condition(self, answers: Answers, response: ResponseModel) -> tuple[Components, FitReport]:
        """Belief after ``answers``: every component's Laplace fit, weighted by how well it foretold the answers.

        Raises:
            ValueError: As ``Prior.condition``.
        """
        check_answers(answers, self.population.size)
        answers = canonical(answers)
        if len(answers) == 0 or response.exponent == 0.0:
            return self.population, ALONE
        update = update_gaussians(self.means, self.precisions, answers, response)
        with np.errstate(divide="ignore"):  # a component of probability zero stays at zero
            weights, kept = normalised(np.log(self.weights) + update.evidence)
        belief = Components(weights, update.means[kept], factor_of(update.precisions[kept]))
        return belief, FitReport(update.converged, update.iterations, update.largest_gradient)

    def arrays(self) -> Mapping[str, np.ndarray]:
        """``weights`` (C,), ``means`` (C, K) and ``precisions`` (C, K, K)."""
        return {"weights": self.weights, "means": self.means, "precisions": self.precisions}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "MixturePrior":
        """The prior that ``arrays`` described; raises ``KeyError`` or ``ValueError`` if they describe none."""
        return cls(arrays["weights"], arrays["means"], arrays["precisions"])


@dataclass(frozen=True)
class MixtureFit:
    """Fits the mixture by EM over people; held-out people's evidence chooses among ``counts`` of components."""

    counts: tuple[int, ...] = COUNTS
    family: ClassVar[str] = "mixture"

    def __call__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,  # noqa: ARG002 - every family is called alike
        rng: np.random.Generator,
    ) -> MixturePrior:
        """``rng`` draws the held-out people and the starting points; ``about`` is not used."""
        ids = np.unique(people)
        everyone = _People(differences, first_preferred, people)
        if len(ids) < FEWEST_PEOPLE:
            return everyone.mixture(1, rng)
        judges = np.isin(people, ids[rng.permutation(len(ids))[: round(HELD_OUT * len(ids))]])
        fitted = _People(differences[~judges], first_preferred[~judges], people[~judges])
        held_out = PeopleProblem(differences[judges], first_preferred[judges], people[judges])
        gains = {count: _evidence(held_out, fitted.mixture(count, rng)) for count in self.counts}
        return everyone.mixture(max(gains, key=lambda count: gains[count]), rng)


class _People:
    """Training people, what is known of each under one Gaussian, and mixtures fitted to them."""

    def __init__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
    ) -> None:
        self._problem = PeopleProblem(differences, first_preferred, people)
        self._gaussian = fit_population(differences, first_preferred, people, iterations=GAUSSIAN_ROUNDS)
        self._fit = self._problem.refine(self._gaussian, self._problem.fit(self._gaussian))

    def mixture(self, count: int, rng: np.random.Generator) -> MixturePrior:
        """EM from ``count`` people far apart; ends when the evidence settles."""
        if count == 1:
            return _mixture(np.ones(1), [self._gaussian])
        centres = _spread_out(self._fit.means @ np.linalg.cholesky(self._gaussian.precision), count, rng)
        priors = [Posterior(self._fit.means[centre], self._gaussian.precision) for centre in centres]
        weights, before = np.full(count, 1.0 / count), -np.inf
        fits = [self._fit] * count
        for _ in range(ROUNDS):
            fits = [self._problem.refine(prior, fit) for prior, fit in zip(priors, fits, strict=True)]
            evidence = _joint_evidence(self._problem, weights, priors, fits)
            total = np.logaddexp.reduce(evidence, axis=0)
            belongs = np.exp(evidence - total)
            priors = [
                maximise(fit.means, fit.covariances(), np.maximum(share, SMALLEST_SHARE), SHRINKAGE)
                for fit, share in zip(fits, belongs, strict=True)
            ]
            weights = (belongs.sum(axis=1) + 1.0) / (belongs.sum() + count)
            if total.mean() - before < SETTLED:
                break
            before = float(total.mean())
        return _mixture(weights, priors)


def _mixture(weights: Float64[np.ndarray, " components"], priors: Sequence[Posterior]) -> MixturePrior:
    """The prior with these components."""
    return MixturePrior(weights, np.array([one.mean for one in priors]), np.array([one.precision for one in priors]))


def _evidence(problem: PeopleProblem, prior: MixturePrior) -> float:
    """Mean log-probability of people's answers under a mixture, in nats a person."""
    parts = [Posterior(mean, precision) for mean, precision in zip(prior.means, prior.precisions, strict=True)]
    joint = _joint_evidence(problem, prior.weights, parts, [problem.fit(part) for part in parts])
    return float(np.logaddexp.reduce(joint, axis=0).mean())


def _joint_evidence(
    problem: PeopleProblem,
    weights: Float64[np.ndarray, " components"],
    priors: Sequence[Posterior],
    fits: Sequence[PeopleFit],
) -> Float64[np.ndarray, "components people"]:
    """Log of each component's weight times the probability of everyone's answers under it."""
    evidence = [problem.log_evidence(prior, fit) for prior, fit in zip(priors, fits, strict=True)]
    return np.asarray(np.log(weights)[:, None] + np.array(evidence), dtype=np.float64)


def _spread_out(whitened: Float64[np.ndarray, "people basis"], count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``count`` people drawn far apart: each with a chance that grows as the squared distance to the others.

    Source:
        Arthur and Vassilvitskii, k-means++: The Advantages of Careful Seeding (2007).
    """
    chosen = [int(rng.integers(len(whitened)))]
    nearest = np.full(len(whitened), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, np.square(whitened - whitened[chosen[-1]]).sum(axis=1))
        total = nearest.sum()
        chances = nearest / total if total > 0.0 else np.full(len(whitened), 1.0 / len(whitened))
        chosen.append(int(rng.choice(len(whitened), p=chances)))
    return np.array(chosen)
