"""A belief that is a weighted mixture of points or Gaussians, and how answers change its Gaussians. Knows no family."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Margins
from app.preferences.gaussian import check_rows
from app.preferences.likelihood import answer_terms, log_likelihood

MAX_ITERATIONS = 200
MAX_HALVINGS = 40
SUFFICIENT_DECREASE = 1e-4  # Armijo's constant
TOLERANCE = 1e-5  # Newton decrement, in posterior standard deviations
NEGLIGIBLE = 1e-9  # of the total weight: components below it change no prediction


@dataclass(frozen=True, eq=False)
class Components:
    """Mixture of C Gaussians: ``weights`` (C,), ``means`` (C, K), ``factors`` (C or 1, R, K); a ``Belief``.

    The covariance of a component is ``factor.T @ factor``; one factor serves all components if there is only one, and
    R is zero where the components are points. Weights add up to one.

    Raises:
        ValueError: If the shapes disagree, an entry is not finite, or the weights are no distribution.
    """

    weights: Float64[np.ndarray, " components"]
    means: Float64[np.ndarray, "components basis"]
    factors: Float64[np.ndarray, "shared rank basis"]

    def __post_init__(self) -> None:
        count, size = self.means.shape
        shared, _, width = self.factors.shape
        if self.weights.shape != (count,) or shared not in (1, count) or width != size or 0 in (count, size):
            raise ValueError(
                f"weights {self.weights.shape}, means {self.means.shape} and factors {self.factors.shape} do not fit; "
                "pass (C,), (C, K) and (C or 1, R, K)."
            )
        if not (np.isfinite(self.means).all() and np.isfinite(self.factors).all()):
            raise ValueError("means and factors must be finite; remove NaN and infinity.")
        if not ((self.weights >= 0.0).all() and abs(self.weights.sum() - 1.0) < 1e-9):
            raise ValueError("weights must not be negative and must add up to one; divide them by their sum.")

    @property
    def size(self) -> int:
        """Number of basis rewards, K."""
        return int(self.means.shape[1])

    @cached_property
    def mean(self) -> Float64[np.ndarray, " basis"]:
        """Expected coefficients (K,), in log-odds per unit of basis reward."""
        return np.asarray(self.weights @ self.means, dtype=np.float64)

    @cached_property
    def _covariance(self) -> Float64[np.ndarray, "basis basis"]:
        """Covariance within components plus covariance between them, exactly symmetric."""
        between = np.sqrt(self.weights)[:, None] * (self.means - self.mean)
        shares = self.weights if len(self.factors) > 1 else np.ones(1)
        within = (np.sqrt(shares)[:, None, None] * self.factors).reshape(-1, self.size)
        return np.asarray(between.T @ between + within.T @ within, dtype=np.float64)

    def covariance(self) -> Float64[np.ndarray, "basis basis"]:
        """Covariance of the coefficients (K, K), in squared log-odds per squared unit of basis reward."""
        return self._covariance.copy()

    def std(self) -> Float64[np.ndarray, " basis"]:
        """Standard deviation of each coefficient (K,)."""
        return np.asarray(np.sqrt(np.diag(self._covariance)), dtype=np.float64)

    def project(
        self, rows: Float64[np.ndarray, "rows basis"]
    ) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """Mean and variance (N,) of ``rows @ coefficients``; raises ``ValueError`` if rows are not finite (N, K)."""
        check_rows(rows, self.size)
        variances = np.einsum("nk,nk->n", rows @ self._covariance, rows)
        return rows @ self.mean, np.maximum(variances, 0.0)

    def margins(self, rows: Float64[np.ndarray, "rows basis"]) -> Margins:
        """Distribution of ``rows @ coefficients``, a component each; memory grows with rows times components."""
        check_rows(rows, self.size)
        means = rows @ self.means.T
        spread = np.square(rows @ self.factors.transpose(0, 2, 1)).sum(axis=2).T
        return Margins(self.weights, means, np.broadcast_to(spread, means.shape))

    def draw(self, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "draws basis"]:
        """``count`` coefficient vectors (``count``, K); advances ``rng``."""
        chosen = rng.choice(len(self.weights), size=count, p=self.weights)
        noise = rng.standard_normal((count, 1, self.factors.shape[1]))
        factors = self.factors[chosen if len(self.factors) > 1 else np.zeros(count, dtype=np.int64)]
        return np.asarray(self.means[chosen] + (noise @ factors)[:, 0], dtype=np.float64)

    def moved(self, offset: Float64[np.ndarray, " basis"]) -> "Components":
        """The same mixture with ``offset`` added to every component; raises ``ValueError`` if it is not (K,)."""
        if offset.shape != (self.size,):
            raise ValueError(f"offset is {offset.shape}, but there are {self.size} coefficients; pass one entry each.")
        return Components(self.weights, self.means + offset, self.factors)


def points(
    log_weights: Float64[np.ndarray, " points"], coefficients: Float64[np.ndarray, "points basis"]
) -> Components:
    """Mixture of points with weights proportional to ``exp(log_weights)``; points of negligible weight are left out."""
    weights, kept = normalised(log_weights)
    return Components(weights, coefficients[kept], np.zeros((1, 0, coefficients.shape[1])))


def normalised(
    log_weights: Float64[np.ndarray, " components"],
) -> tuple[Float64[np.ndarray, " kept"], np.ndarray]:
    """Weights that add up to one, and the indices of the components whose weight is not negligible."""
    weights = np.exp(log_weights - log_weights.max())
    kept = np.flatnonzero(weights > NEGLIGIBLE * weights.sum())
    return weights[kept] / weights[kept].sum(), kept


def joint_log_likelihood(
    answers: Answers, coefficients: Float64[np.ndarray, "points basis"], response: ResponseModel
) -> Float64[np.ndarray, " points"]:
    """Log-likelihood of all answers under each coefficient vector (C,), in nats, weighted and tempered."""
    each = log_likelihood(answers.differences @ coefficients.T, answers.first_preferred[:, None], response)
    return np.asarray((response.exponent * answers.weights) @ each, dtype=np.float64)


@dataclass(frozen=True)
class GaussianUpdate:
    """Laplace fits of C Gaussians to the same answers: ``means``, ``precisions``, and the log ``evidence`` of each."""

    means: Float64[np.ndarray, "components basis"]
    precisions: Float64[np.ndarray, "components basis basis"]
    evidence: Float64[np.ndarray, " components"]
    converged: bool
    iterations: int
    largest_gradient: float


def update_gaussians(
    means: Float64[np.ndarray, "components basis"],
    precisions: Float64[np.ndarray, "components basis basis"],
    answers: Answers,
    response: ResponseModel,
) -> GaussianUpdate:
    """Fit every Gaussian's Laplace approximation to the same canonical answers, all at once, by damped Newton.

    The evidence is the log-probability of the answers under each Gaussian in nats (Bishop, PRML, eq. 4.137):
    likelihood and prior at the MAP, plus half the log-determinants' difference.
    """
    problem = _GaussianProblem(means, precisions, answers, response)
    at, (values, slopes, curvatures) = means, problem(means)
    for iteration in range(MAX_ITERATIONS + 1):
        steps = np.linalg.solve(curvatures, slopes[:, :, None])[:, :, 0]
        decrements = np.einsum("ck,ck->c", slopes, steps)
        converged = decrements <= TOLERANCE**2
        if converged.all() or iteration == MAX_ITERATIONS:
            break
        lengths = np.where(converged, 0.0, 1.0)
        for _ in range(MAX_HALVINGS + 1):
            trial = at - lengths[:, None] * steps
            found = problem(trial)
            bound = values - SUFFICIENT_DECREASE * lengths * decrements + 1e-14 * np.maximum(1.0, np.abs(values))
            too_far = found[0] > bound
            if not too_far.any():
                break
            lengths[too_far] *= 0.5
        at, (values, slopes, curvatures) = trial, found
    log_volume = 0.5 * (np.linalg.slogdet(precisions)[1] - np.linalg.slogdet(curvatures)[1])
    largest = float(np.abs(slopes).max())
    return GaussianUpdate(at, curvatures, log_volume - values, bool(converged.all()), iteration, largest)


@dataclass(frozen=True)
class _GaussianProblem:
    """Negative log posterior of each component at a point of its own, with its slope and expected curvature."""

    means: Float64[np.ndarray, "components basis"]
    precisions: Float64[np.ndarray, "components basis basis"]
    answers: Answers
    response: ResponseModel

    def __call__(
        self, at: Float64[np.ndarray, "components basis"]
    ) -> tuple[
        Float64[np.ndarray, " components"],
        Float64[np.ndarray, "components basis"],
        Float64[np.ndarray, "components basis basis"],
    ]:
        rows, count = self.answers.differences, len(at)
        offsets = at - self.means
        pulls = (self.precisions @ offsets[:, :, None])[:, :, 0]
        margins = at @ rows.T
        terms = answer_terms(margins.ravel(), np.tile(self.answers.first_preferred, count), self.response)
        weights = self.response.exponent * self.answers.weights
        values = 0.5 * np.einsum("ck,ck->c", offsets, pulls) + terms.losses.reshape(count, -1) @ weights
        slopes = pulls + (terms.slopes.reshape(count, -1) * weights) @ rows
        scaled = np.sqrt(terms.information.reshape(count, -1) * weights)[:, :, None] * rows
        return values, slopes, self.precisions + scaled.transpose(0, 2, 1) @ scaled


def factor_of(
    precisions: Float64[np.ndarray, "components basis basis"],
) -> Float64[np.ndarray, "components basis basis"]:
    """Factors F with ``F.T @ F = inverse(precision)``: inverses of the lower Cholesky factors."""
    return np.asarray(np.linalg.inv(np.linalg.cholesky(precisions)), dtype=np.float64)
