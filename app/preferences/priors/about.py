"""People whose own words say something of their taste: a Gaussian whose mean depends on what a person wrote.

Somebody who wrote nothing, or only words that no training person used, gets the plain population.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.gaussian import Posterior
from app.preferences.logistic import expected_sigmoid
from app.preferences.people import PeopleProblem
from app.preferences.population import fit_population, log_loss
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.priors.words import BUCKETS, hashed_words, rarities, unit_rows

RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)  # inverse share of people's variance that a text of unit length may explain
FOLDS = 5
POPULATION_ROUNDS = 100
MOST_STEPS = 100  # of conjugate gradients
SOLVED = 1e-6  # of the right-hand side's length
LARGEST = 30.0  # root mean square difference of a basis reward with which people are fitted; larger ones are scaled


@dataclass(frozen=True, eq=False)
class AboutPrior:
    """Coefficients of a person with words ``t``: ``residual`` plus ``t @ slopes``; ``population`` without words.

    ``slopes`` (buckets, K) are in log-odds per unit of basis reward; ``rarity`` (buckets,) weighs the words.

    Raises:
        ValueError: If the sizes disagree or an entry is not finite.
    """

    population: Posterior
    residual: Posterior
    slopes: Float64[np.ndarray, "buckets basis"]
    rarity: Float64[np.ndarray, " buckets"]
    family: ClassVar[str] = "about"

    def __post_init__(self) -> None:
        size = self.population.size
        if self.residual.size != size or self.slopes.shape != (BUCKETS, size) or self.rarity.shape != (BUCKETS,):
            raise ValueError(
                f"slopes {self.slopes.shape} and rarity {self.rarity.shape} do not fit; "
                f"pass ({BUCKETS}, {size}) and ({BUCKETS},)."
            )
        if not (np.isfinite(self.slopes).all() and np.isfinite(self.rarity).all()):
            raise ValueError("slopes and rarity must be finite; remove NaN and infinity.")

    def told(self, about: str | None) -> "AboutPrior | GaussianPrior":
        """The prior of a person who wrote ``about``; itself if that says nothing."""
        shift = (unit_rows(hashed_words([about]), self.rarity) @ self.slopes)[0]
        return GaussianPrior(self.residual.moved(shift)) if shift.any() else self

    def condition(self, answers: Answers, response: ResponseModel) -> tuple[Posterior, FitReport]:
        """Belief about a person who wrote nothing after ``answers``, as ``GaussianPrior.condition``."""
        return GaussianPrior(self.population).condition(answers, response)

    def arrays(self) -> Mapping[str, np.ndarray]:
        """Mean and precision of both Gaussians, ``slopes`` (buckets, K) and ``rarity`` (buckets,)."""
        return {
            "mean": self.population.mean,
            "precision": self.population.precision,
            "residual_mean": self.residual.mean,
            "residual_precision": self.residual.precision,
            "slopes": self.slopes,
            "rarity": self.rarity,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "AboutPrior":
        """The prior that ``arrays`` described; raises ``KeyError`` or ``ValueError`` if they describe none."""
        return cls(
            Posterior(arrays["mean"], arrays["precision"]),
            Posterior(arrays["residual_mean"], arrays["residual_precision"]),
            arrays["slopes"],
            arrays["rarity"],
        )


@dataclass(frozen=True)
class AboutFit:
    """Fits the words' slopes by ridge regression that knows how well each training person is known.

    The ridge, or not to read at all, is chosen by the answers of people whose words were left out; the residual
    population is fitted around what those left-out predictions say, so that it is not too narrow.
    """

    family: ClassVar[str] = "about"

    def __call__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,
        rng: np.random.Generator,
    ) -> AboutPrior:
        """``rng`` draws the folds; without any ``about`` the slopes are zero.

        Raises:
            ValueError: If ``about`` has another length than there are distinct people.
        """
        unit = np.maximum(1.0, np.sqrt(np.square(differences).mean(axis=0)) / LARGEST)
        return _in_units(self._fit(differences / unit, first_preferred, people, about, rng), unit)

    def _fit(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,
        rng: np.random.Generator,
    ) -> AboutPrior:
        ids, person = np.unique(people, return_inverse=True)
        population = fit_population(differences, first_preferred, people, iterations=POPULATION_ROUNDS)
        texts = [None] * len(ids) if about is None else list(about)
        if len(texts) != len(ids):
            raise ValueError(f"about has {len(texts)} entries for {len(ids)} people; pass one each, or None.")
        counts = hashed_words(texts)
        rarity = rarities(counts)
        words = unit_rows(counts, rarity)
        silent = AboutPrior(population, population, np.zeros((BUCKETS, population.size)), rarity)
        if not words.any() or len(ids) < 2 * FOLDS:
            return silent
        regression = _Regression.of(population, PeopleProblem(differences, first_preferred, people), words)
        folds = rng.permutation(len(ids)) % FOLDS
        shifts = {ridge: regression.left_out(ridge, folds) for ridge in RIDGES}
        shifts[np.inf] = np.zeros((len(ids), population.size))
        variances = population.project(differences)[1]

        def cost(ridge: float) -> float:
            margins = np.einsum("nk,nk->n", differences, population.mean + shifts[ridge][person])
            return log_loss(expected_sigmoid(margins, variances), first_preferred)

        best = min((np.inf, *RIDGES), key=cost)
        if best == np.inf:
            return silent
        residual = fit_population(
            differences, first_preferred, people, iterations=POPULATION_ROUNDS, shifts=shifts[best]
        )
        return AboutPrior(population, residual, regression.slopes(best, np.ones(len(ids), dtype=bool)), rarity)


def _in_units(prior: AboutPrior, unit: Float64[np.ndarray, " basis"]) -> AboutPrior:
    """The prior of coefficients on basis rewards ``unit`` (K,) times as large as those that ``prior`` is about."""
    population, residual = (
        Posterior(one.mean / unit, one.precision * np.outer(unit, unit)) for one in (prior.population, prior.residual)
    )
    return AboutPrior(population, residual, prior.slopes / unit, prior.rarity)


@dataclass(frozen=True, eq=False)
class _Regression:
    """What is known of people (P), whitened by the population, against their ``words`` (P, buckets).

    A person known as N(m, C) under the population N(mu, S) says of their own mean what a measurement ``m - mu`` with
    information ``1 - C`` in units of S would: little if C is nearly S.
    """

    words: Float64[np.ndarray, "people buckets"]
    surprises: Float64[np.ndarray, "people basis"]
    information: Float64[np.ndarray, "people basis basis"]
    whitening: Float64[np.ndarray, "basis basis"]

    @classmethod
    def of(
        cls, population: Posterior, problem: PeopleProblem, words: Float64[np.ndarray, "people buckets"]
    ) -> "_Regression":
        """Whiten the fits of everyone in ``problem``."""
        fit = problem.refine(population, problem.fit(population))
        whitening = population.whitening
        whiten = np.linalg.inv(whitening)
        unknown = whiten.T @ fit.covariances() @ whiten
        return cls(words, (fit.means - population.mean) @ whiten, np.eye(population.size) - unknown, whitening)

    def left_out(self, ridge: float, folds: np.ndarray) -> Float64[np.ndarray, "people basis"]:
        """What everyone's words say (P, K), by slopes fitted on the people of other folds."""
        shifts = np.zeros_like(self.surprises)
        for fold in range(int(folds.max()) + 1):
            shifts[folds == fold] = self.words[folds == fold] @ self.slopes(ridge, folds != fold)
        return shifts

    def slopes(self, ridge: float, used: Bool[np.ndarray, " people"]) -> Float64[np.ndarray, "buckets basis"]:
        """Ridge solution on the ``used`` people, by conjugate gradients.

        Source:
            Nocedal and Wright, Numerical Optimization (2006), alg. 5.2; the normal equations of generalised least
            squares with a Gaussian prior of variance ``1 / ridge`` on every slope, in whitened coordinates.
        """
        words, information = self.words[used], self.information[used]
        found = np.zeros((words.shape[1], self.surprises.shape[1]))
        left = words.T @ self.surprises[used]
        step, size = left, float(np.square(left).sum())
        target = SOLVED**2 * size
        for _ in range(MOST_STEPS):
            if size <= target:
                break
            told = words @ step
            applied = words.T @ (information @ told[:, :, None])[:, :, 0] + ridge * step
            length = size / float((step * applied).sum())
            found, left = found + length * step, left - length * applied
            before, size = size, float(np.square(left).sum())
            step = left + (size / before) * step
        return np.asarray(found @ self.whitening, dtype=np.float64)
