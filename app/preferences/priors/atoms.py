"""People who are like somebody seen before: a weighted set of training people's coefficients, each with a halo.

Reweighting a set of points by the likelihood is exact inference for people who are one of them, at any number of
answers. The halo, a Gaussian narrow against the population, keeps a person between the points from being lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.people import PeopleFit, PeopleProblem
from app.preferences.population import fit_population
from app.preferences.posterior import canonical, check_answers
from app.preferences.priors.components import (
    Components,
    factor_of,
    joint_log_likelihood,
    normalised,
    points,
    update_gaussians,
)
from app.preferences.priors.heldout import sequential_losses

MOST_ATOMS = 512
MOST_HALOS = 32  # that answers are allowed to move; the others have less weight than any of them
UNLIKELY = 8.0  # nats below the best: halos that are left out although there is room
JUDGES = 60  # people left out in turn to choose the bandwidth
BANDWIDTHS = (0.0, 0.25, 0.5, 1.0)
REFINEMENTS = 5
GAUSSIAN_ROUNDS = 50  # of the Gaussian population under which people become atoms
EXACT = FitReport(converged=True, iterations=0, largest_gradient=0.0)


@dataclass(frozen=True, eq=False)
class AtomsPrior:
    """Coefficients are one of ``atoms`` (A, K), with the probabilities ``weights`` (A,), plus a halo.

    ``halo`` (K, K) is the Gaussian's covariance around every atom, in squared log-odds; all zero for pure points.

    Raises:
        ValueError: If the shapes disagree, an entry is not finite, the weights are no distribution, or ``halo`` is
            neither zero nor positive definite.
    """

    atoms: Float64[np.ndarray, "atoms basis"]
    weights: Float64[np.ndarray, " atoms"]
    halo: Float64[np.ndarray, "basis basis"]
    family: ClassVar[str] = "atoms"

    def __post_init__(self) -> None:
        _ = self.population  # fails here and not at its first use

    @cached_property
    def population(self) -> Components:
        """Every atom with its halo, by its probability."""
        return Components(self.weights, self.atoms, self._factor)

    @cached_property
    def _factor(self) -> Float64[np.ndarray, "one rank basis"]:
        if not self.halo.any():
            return np.zeros((1, 0, self.halo.shape[1]))
        try:
            return np.asarray(np.linalg.cholesky(self.halo).T[None], dtype=np.float64)
        except np.linalg.LinAlgError as error:
            raise ValueError("halo must be zero or positive definite; give every direction some variance.") from error

    @cached_property
    def _precision(self) -> Float64[np.ndarray, "basis basis"]:
        inverse = np.linalg.inv(self.halo)
        return np.asarray((inverse + inverse.T) / 2.0, dtype=np.float64)

    def told(self, about: str | None) -> "AtomsPrior":  # noqa: ARG002 - this family does not read
        """The prior itself: this family does not read what people write of themselves."""
        return self

    def condition(self, answers: Answers, response: ResponseModel) -> tuple[Components, FitReport]:
        """Belief after ``answers``: exact for points; with halos, Laplace fits weighted by their evidence.

        Of the halos, at most ``MOST_HALOS`` that explain the answers best, with the halo's spread taken into account,
        are moved by them; the others are left out.

        Raises:
            ValueError: As ``Prior.condition``.
        """
        check_answers(answers, self.population.size)
        answers = canonical(answers)
        if len(answers) == 0 or response.exponent == 0.0:
            return self.population, EXACT
        with np.errstate(divide="ignore"):  # an atom of probability zero stays at zero
            log_weights = np.log(self.weights)
        if not self.halo.any():
            return points(log_weights + joint_log_likelihood(answers, self.atoms, response), self.atoms), EXACT
        # A logistic margin blurred by variance v acts like one shrunk by sqrt(1 + pi v / 8): a first look only.
        shrink = np.sqrt(1.0 + np.pi / 8.0 * np.square(answers.differences @ self._factor[0].T).sum(axis=1))
        blurred = Answers(answers.differences / shrink[:, None], answers.first_preferred, answers.weights)
        first_look = log_weights + joint_log_likelihood(blurred, self.atoms, response)
        likeliest = np.argsort(-first_look, kind="stable")[:MOST_HALOS]
        likeliest = np.sort(likeliest[first_look[likeliest] >= first_look[likeliest[0]] - UNLIKELY])
        precisions = np.broadcast_to(self._precision, (len(likeliest), *self._precision.shape))
        update = update_gaussians(self.atoms[likeliest], precisions, answers, response)
        weights, kept = normalised(log_weights[likeliest] + update.evidence)
        belief = Components(weights, update.means[kept], factor_of(update.precisions[kept]))
        return belief, FitReport(update.converged, update.iterations, update.largest_gradient)

    def arrays(self) -> Mapping[str, np.ndarray]:
        """``atoms`` (A, K), ``weights`` (A,) and ``halo`` (K, K)."""
        return {"atoms": self.atoms, "weights": self.weights, "halo": self.halo}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "AtomsPrior":
        """The prior that ``arrays`` described; raises ``KeyError`` or ``ValueError`` if they describe none."""
        return cls(arrays["atoms"], arrays["weights"], arrays["halo"])


@dataclass(frozen=True)
class AtomsFit:
    """Fits the atoms: each training person's expected coefficients, under a Gaussian population.

    The halo is a part (``BANDWIDTHS``, squared) of what is not known of people on average, so that at one the
    population has the spread of the Gaussian one. It is chosen by the log-loss of people whose own atom is left out.
    """

    family: ClassVar[str] = "atoms"

    def __call__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,  # noqa: ARG002 - every family is called alike
        rng: np.random.Generator,
    ) -> AtomsPrior:
        """At most ``MOST_ATOMS`` people, drawn by ``rng``, become atoms; ``about`` is not used."""
        fit = _known(differences, first_preferred, people)
        chosen = np.sort(rng.permutation(len(fit.ids))[:MOST_ATOMS])
        atoms, unknown = fit.means[chosen], fit.covariances().mean(axis=0)
        judges = np.sort(rng.permutation(len(chosen))[:JUDGES])
        order = rng.permutation(len(people))
        if len(chosen) < 3:
            return _prior(atoms, unknown)

        def cost(bandwidth: float) -> float:
            losses = []
            for judge in judges:
                others = _prior(np.delete(atoms, judge, axis=0), bandwidth**2 * unknown)
                own = order[people[order] == fit.ids[chosen[judge]]]
                losses.append(sequential_losses(others, Answers.of(differences[own], first_preferred[own])))
            return float(np.nanmean(losses))

        return _prior(atoms, min(BANDWIDTHS, key=cost) ** 2 * unknown)


def _known(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    people: np.ndarray,
) -> PeopleFit:
    """What is known of every training person, under the Gaussian population."""
    gaussian = fit_population(differences, first_preferred, people, iterations=GAUSSIAN_ROUNDS)
    problem = PeopleProblem(differences, first_preferred, people)
    fit = problem.fit(gaussian)
    for _ in range(REFINEMENTS):
        fit = problem.refine(gaussian, fit)
    return fit


def _prior(atoms: Float64[np.ndarray, "atoms basis"], halo: Float64[np.ndarray, "basis basis"]) -> AtomsPrior:
    """Atoms of equal probability."""
    return AtomsPrior(atoms, np.full(len(atoms), 1.0 / len(atoms)), halo)
