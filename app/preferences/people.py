"""Laplace fits of many people at once, without a Python loop over them. Knows one prior for all of them.

The same estimate as ``posterior.fit_posterior`` gives person by person, to the tolerance of the fit.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.preferences.answers import Answers
from app.preferences.gaussian import Posterior
from app.preferences.logistic import gauss_hermite, log_sigmoid, sigmoid
from app.preferences.posterior import (
    MAX_HALVINGS,
    MAX_ITERATIONS,
    ROUNDING,
    SUFFICIENT_DECREASE,
    canonical,
    canonical_sides,
    check_answers,
)

REFINEMENT_NODES = 8
POINTS_PER_CHUNK = 64  # columns of a matrix as long as all comparisons

# How uncertain every margin is: offsets (N, nodes) around its mean, and their weights (nodes,).
Noise = tuple[Float64[np.ndarray, "comparisons nodes"], Float64[np.ndarray, " nodes"]]


@dataclass(frozen=True)
class PeopleFit:
    """Everyone's MAP (P, K) and Laplace precision (P, K, K), in the order of their ``ids`` (P,)."""

    ids: Int64[np.ndarray, " people"]
    means: Float64[np.ndarray, "people basis"]
    precisions: Float64[np.ndarray, "people basis basis"]
    converged: Bool[np.ndarray, " people"]

    def covariances(self) -> Float64[np.ndarray, "people basis basis"]:
        """Laplace covariances (P, K, K), exactly symmetric."""
        inverse = np.linalg.inv(self.precisions)
        return np.asarray((inverse + inverse.transpose(0, 2, 1)) / 2.0, dtype=np.float64)


class PeopleProblem:
    """Comparisons of many people, sorted so that each person's rows lie together and in canonical order."""

    def __init__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: Int64[np.ndarray, " comparisons"],
        *,
        exponent: float = 1.0,
        shifts: Float64[np.ndarray, "people basis"] | None = None,
    ) -> None:
        """Sort copies of the rows; raises ``ValueError`` if they do not belong together or there are none.

        ``shifts`` (P, K), in the order of the sorted people, is a part of everyone's coefficients that is known
        beforehand; what is fitted comes on top of it.
        """
        check_answers(Answers.of(differences, first_preferred), differences.shape[1])
        if people.shape != first_preferred.shape or len(people) == 0:
            raise ValueError(f"{len(differences)} comparisons need one person each, and there must be at least one.")
        self.ids, person = np.unique(people, return_inverse=True)
        rows, answers = canonical_sides(differences, first_preferred)
        order = np.lexsort((answers, *rows.T[::-1], person))
        self._rows, self._answers, self._person = rows[order], answers[order], person[order]
        self._starts = np.searchsorted(self._person, np.arange(len(self.ids)))
        self._exponent = exponent
        self._known = 0.0 if shifts is None else np.einsum("nk,nk->n", self._rows, shifts[self._person])

    @property
    def size(self) -> int:
        """Number of basis rewards, K."""
        return int(self._rows.shape[1])

    def pooled(self) -> tuple[Float64[np.ndarray, "comparisons basis"], Float64[np.ndarray, " comparisons"]]:
        """All comparisons as if one person had answered them."""
        answers = canonical(Answers.of(self._rows, self._answers))
        return answers.differences, answers.first_preferred

    def fit(
        self,
        prior: Posterior,
        start: PeopleFit | None = None,
        *,
        tolerance: float = 1e-8,
    ) -> PeopleFit:
        """Fit everyone's MAP and Laplace precision by damped Newton, each with a step length of their own.

        Args:
            prior: Belief about every person before their comparisons.
            start: A fit to start from; the prior's mean if left out.
            tolerance: Newton decrement accepted as converged, in posterior standard deviations.

        Source:
            As ``posterior.fit_posterior``.
        """
        certain = np.zeros((len(self._rows), 1)), np.ones(1)
        return self._newton(prior, None if start is None else start.means, certain, tolerance)

    def log_evidence(self, prior: Posterior, fit: PeopleFit) -> Float64[np.ndarray, " people"]:
        """Log-probability of everyone's answers under ``prior`` in nats, by Laplace's approximation at ``fit``.

        Source:
            Bishop, PRML (2006), eq. 4.137.
        """
        certain = np.zeros((len(self._rows), 1)), np.ones(1)
        volumes = np.linalg.slogdet(prior.precision)[1] - np.linalg.slogdet(fit.precisions)[1]
        return np.asarray(0.5 * volumes - self._objective(prior, fit.means, certain), dtype=np.float64)

    def log_likelihoods(self, points: Float64[np.ndarray, "points basis"]) -> Float64[np.ndarray, "people points"]:
        """Log-likelihood of everyone's answers under each of the same coefficient vectors, in nats."""
        found = np.empty((len(self.ids), len(points)))
        for start in range(0, len(points), POINTS_PER_CHUNK):
            chunk = slice(start, start + POINTS_PER_CHUNK)
            margins = self._rows @ points[chunk].T + np.reshape(self._known, (-1, 1))
            found[:, chunk] = self._sum(log_sigmoid(-margins) + self._answers[:, None] * margins)
        return self._exponent * found

    def refine(self, prior: Posterior, fit: PeopleFit, *, tolerance: float = 1e-6) -> PeopleFit:
        """One pass from a fit towards the Gaussian closest to each person's exact posterior.

        The likelihood and its curvature are averaged over ``fit``'s uncertainty about every margin instead of taken at
        its mean. Repeated passes end at the Gaussian variational approximation, whose means and covariances, unlike
        Laplace's, are not biased towards the prior if a person's answers are few and clear.

        Args:
            prior: Belief about every person before their comparisons.
            fit: The current fit; its covariances are averaged over.
            tolerance: Newton decrement accepted as converged, in posterior standard deviations.

        Source:
            Opper and Archambeau, The Variational Gaussian Approximation Revisited (2009), eq. 5 and 6.
        """
        covariances = fit.covariances()[self._person]
        variances = np.einsum("nk,nkl,nl->n", self._rows, covariances, self._rows)
        nodes, weights = gauss_hermite(REFINEMENT_NODES)
        return self._newton(
            prior, fit.means, (np.sqrt(np.maximum(variances, 0.0))[:, None] * nodes, weights), tolerance
        )

    def _newton(
        self,
        prior: Posterior,
        start: Float64[np.ndarray, "people basis"] | None,
        noise: Noise,
        tolerance: float,
    ) -> PeopleFit:
        """Minimise everyone's ``_objective``; people who have converged stay where they are."""
        means = np.tile(prior.mean, (len(self.ids), 1)) if start is None else start
        values = self._objective(prior, means, noise)
        for iteration in range(MAX_ITERATIONS + 1):
            slopes, precisions = self._derivatives(prior, means, noise)
            steps = np.linalg.solve(precisions, slopes[:, :, None])[:, :, 0]
            decrements = np.einsum("pk,pk->p", slopes, steps)
            converged = decrements <= tolerance**2
            if converged.all() or iteration == MAX_ITERATIONS:
                break
            steps[converged] = decrements[converged] = 0.0
            means, values = self._line_search(prior, means, values, steps, decrements, noise)
        return PeopleFit(self.ids, means, precisions, converged)

    def _line_search(
        self,
        prior: Posterior,
        means: Float64[np.ndarray, "people basis"],
        values: Float64[np.ndarray, " people"],
        steps: Float64[np.ndarray, "people basis"],
        decrements: Float64[np.ndarray, " people"],
        noise: Noise,
    ) -> tuple[Float64[np.ndarray, "people basis"], Float64[np.ndarray, " people"]]:
        """Halve each person's step until it decreases that person's objective enough."""
        lengths = np.ones(len(values))
        rounding = ROUNDING * np.maximum(1.0, np.abs(values))
        for _ in range(MAX_HALVINGS + 1):
            trial = means - lengths[:, None] * steps
            trial_values = self._objective(prior, trial, noise)
            too_far = trial_values > values - SUFFICIENT_DECREASE * lengths * decrements + rounding
            if not too_far.any():
                break
            lengths[too_far] *= 0.5
        return trial, trial_values

    def _objective(
        self, prior: Posterior, means: Float64[np.ndarray, "people basis"], noise: Noise
    ) -> Float64[np.ndarray, " people"]:
        """Each person's expected negative log posterior in nats, up to a constant."""
        margins = self._margins(means)
        nodes, weights = noise
        losses = -log_sigmoid(-(margins[:, None] + nodes)) @ weights - self._answers * margins
        offsets = means - prior.mean
        penalty = 0.5 * np.einsum("pk,kl,pl->p", offsets, prior.precision, offsets, optimize=True)
        return np.asarray(penalty + self._exponent * self._sum(losses), dtype=np.float64)

    def _derivatives(
        self, prior: Posterior, means: Float64[np.ndarray, "people basis"], noise: Noise
    ) -> tuple[Float64[np.ndarray, "people basis"], Float64[np.ndarray, "people basis basis"]]:
        """Each person's gradient (P, K) and Hessian (P, K, K); memory grows with N K, not N K²."""
        margins = self._margins(means)
        nodes, weights = noise
        likely, unlikely = sigmoid(margins[:, None] + nodes), sigmoid(-(margins[:, None] + nodes))
        residuals = (1.0 - self._answers) * (likely @ weights) - self._answers * (unlikely @ weights)
        slopes = (means - prior.mean) @ prior.precision
        slopes = slopes + self._exponent * self._sum(residuals[:, None] * self._rows)
        return slopes, prior.precision + self._exponent * self._outer((likely * unlikely) @ weights)

    def _outer(self, weights: Float64[np.ndarray, " comparisons"]) -> Float64[np.ndarray, "people basis basis"]:
        """Each person's sum of weighted outer products of their rows, exactly symmetric."""
        weighted = weights[:, None] * self._rows
        found = np.empty((len(self.ids), self.size, self.size))
        for column in range(self.size):
            found[:, column, :] = self._sum(weighted * self._rows[:, [column]])
        return np.asarray((found + found.transpose(0, 2, 1)) / 2.0, dtype=np.float64)

    def _margins(self, coefficients: Float64[np.ndarray, "people basis"]) -> Float64[np.ndarray, " comparisons"]:
        """Margin of every comparison under the coefficients of the person who answered it."""
        own = np.einsum("nk,nk->n", self._rows, coefficients[self._person])
        return np.asarray(own + self._known, dtype=np.float64)

    def _sum(self, values: Float64[np.ndarray, "comparisons *rest"]) -> Float64[np.ndarray, "people *rest"]:
        """Sums of the rows of each person."""
        return np.asarray(np.add.reduceat(values, self._starts, axis=0), dtype=np.float64)
