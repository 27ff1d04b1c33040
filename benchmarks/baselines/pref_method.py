"""PReF as published, and its question rule with a flat prior, as methods under evaluation.

Written from the paper (arXiv 2503.06358, sections 4.2 and 4.3) and the defaults of its code: a new person is fitted by
plain gradient descent from a random start, without a prior; the first question is random.
"""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64

from app.preferences.gaussian import Posterior
from app.preferences.logistic import sigmoid
from app.preferences.posterior import fit_posterior
from app.training.evaluation.problem import Problem, TestPerson
from benchmarks.baselines.data import Array, Fleet, FleetSession, Together, rewards_of
from benchmarks.baselines.pref import DESCENT_RATE, DESCENT_STEPS, RIDGE
from benchmarks.baselines.pref_basis import fit_pref_basis

DEFAULT_RANK = 6


def descend_together(rows: Array, labels: Array, weights: Array, starts: Array) -> Array:
    """Everyone's coefficients by fixed-step gradient descent on their mean log-loss."""
    counts = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    scaled = DESCENT_RATE * weights / counts
    coefficients = starts[:, :, None]
    turned = np.ascontiguousarray(rows.transpose(0, 2, 1))
    for _ in range(DESCENT_STEPS):
        margins = np.clip((rows @ coefficients)[:, :, 0], -500.0, 500.0)
        residuals = scaled * (1.0 / (1.0 + np.exp(-margins)) - labels)
        coefficients = coefficients - turned @ residuals[:, :, None]
    return coefficients[:, :, 0]


def flat_map(rows: Array, labels: Array, weights: Array, starts: Array) -> Array:
    """Everyone's ridge estimate by Newton's method, with next to no ridge; the starts are not used."""
    prior = Posterior(np.zeros(starts.shape[1]), RIDGE * np.eye(starts.shape[1]))
    found = []
    for own, answers, weight in zip(rows, labels, weights, strict=True):
        count = int(weight.sum())
        posterior, _ = fit_posterior(prior, own[:count], answers[:count])
        found.append(posterior.mean)
    return np.array(found)


class PrefSession(FleetSession):
    """Asks the pair with the largest squared answer variance times squared norm in the inverse curvature."""

    def choose(self, allowed: Bool[np.ndarray, " pairs"]) -> int:
        """The first question at random, then by the rule of the published code."""
        if not self.indices:
            return super().choose(allowed)
        rows = np.flatnonzero(allowed)
        gains = published_gains(self.current(), self.asked, self.rows[rows])
        return int(rows[np.argmax(gains)])


def published_gains(
    coefficients: Float64[np.ndarray, " basis"],
    asked: Float64[np.ndarray, "asked basis"],
    rows: Float64[np.ndarray, "pairs basis"],
) -> Float64[np.ndarray, " pairs"]:
    """Gain of each row: s² xᵀ H⁻¹ x, with s the answer's variance and H the curvature plus ``RIDGE``."""
    slopes = sigmoid(asked @ coefficients) * sigmoid(-(asked @ coefficients))
    curvature = RIDGE * np.eye(len(coefficients)) + (asked * slopes[:, None]).T @ asked
    variances = np.einsum("nk,nk->n", rows @ np.linalg.inv(curvature), rows)
    margins = rows @ coefficients
    return np.asarray((sigmoid(margins) * sigmoid(-margins)) ** 2 * variances, dtype=np.float64)


@dataclass
class PrefMethod:
    """PReF's basis and question rule, with a person's fit by ``fitting``."""

    name: str = "pref"
    fitting: Together = descend_together
    fleet: Fleet = field(init=False)

    def fit(self, problem: Problem, rng: np.random.Generator) -> None:
        """Learn the basis from training people."""
        heads = fit_pref_basis(problem, problem.rank or DEFAULT_RANK, rng)
        self.fleet = Fleet(rewards_of(problem, heads), self.fitting)

    def begin(self, person: TestPerson, rng: np.random.Generator) -> PrefSession:
        """Start a person of whom nothing is known."""
        return PrefSession(self.fleet, person.asked, rng)
