"""From a person's answers to a Gaussian posterior. Knows nothing of where answers come from or what they are used for.

The posterior is derived data: it is fitted again from all comparisons, never updated in place. Rows are brought into
a canonical order first, so that replaying the same answers in any order, with any side shown first, gives the same
bits.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.gaussian import Posterior, check_rows, shifted
from app.preferences.logistic import log_sigmoid, sigmoid

__all__ = [
    "FitReport",
    "Posterior",
    "canonical",
    "canonical_sides",
    "check_answers",
    "fit_posterior",
    "gradient",
    "objective",
    "precision",
    "shifted",
]

LARGEST_DIFFERENCE = 1e6  # beyond it a precision matrix of 64-bit numbers cannot hold prior and answers at once
MAX_ITERATIONS = 200
MAX_HALVINGS = 60
SUFFICIENT_DECREASE = 1e-4  # Armijo's constant
ROUNDING = 8.0 * float(np.finfo(np.float64).eps)  # relative noise of the objective that a line search must forgive


@dataclass(frozen=True)
class FitReport:
    """How a fit ended; ``largest_gradient`` is the largest entry of the gradient in nats per unit of coefficient."""

    converged: bool
    iterations: int
    largest_gradient: float


def fit_posterior(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    *,
    exponent: float = 1.0,
    tolerance: float = 1e-8,
) -> tuple[Posterior, FitReport]:
    """Fit the Laplace approximation to p(coefficients | comparisons).

    precision = prior.precision + exponent * Dᵀ diag(p(1 - p)) D, evaluated at the MAP, which damped Newton finds from
    the prior's mean. Swapping the sides of a pair together with its answer, and the order of the rows, change no bit
    of the result; pairs of equal candidates say nothing and are left out.

    Args:
        prior: Belief before these comparisons.
        differences: Basis rewards of the first candidate minus the second.
        first_preferred: 1.0 where the first candidate was preferred, 0.0 where the second, 0.5 for a tie.
        exponent: Power of the likelihood; below 1 it corrects the over-confidence left by choosing questions actively.
        tolerance: Newton decrement accepted as converged: the distance to the MAP in posterior standard deviations.

    Returns:
        The posterior and how the fit ended; with no informative comparison, the prior itself.

    Raises:
        ValueError: If ``differences`` is not finite, exceeds a million or disagrees with the prior on K, an answer is
            outside [0, 1], or ``exponent`` is negative or not finite.
    Source:
        Bishop, PRML (2006), sec. 4.5.1, the expression for S_N; Nocedal and Wright (2006), alg. 3.1, for the damping.
    """
    check_answers(differences, first_preferred, prior.size, exponent)
    rows, answers = canonical(differences, first_preferred)
    if len(rows) == 0 or exponent == 0.0:
        return prior, FitReport(converged=True, iterations=0, largest_gradient=0.0)
    mean, report = _newton(prior, rows, answers, exponent, tolerance)
    return Posterior(mean, precision(prior, rows, mean, exponent)), report


def check_answers(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " answers"],
    size: int,
    exponent: float,
) -> None:
    """Refuse comparisons that cannot be fitted, with a ``ValueError`` that names what is wrong."""
    check_rows(differences, size)
    if differences.size and np.abs(differences).max() > LARGEST_DIFFERENCE:
        raise ValueError(f"A difference is {np.abs(differences).max():g}; standardise the basis rewards to about 1.")
    if first_preferred.shape != (len(differences),):
        raise ValueError(f"{len(differences)} comparisons need as many answers, not {first_preferred.shape}.")
    if not ((first_preferred >= 0.0) & (first_preferred <= 1.0)).all():
        raise ValueError("first_preferred must lie between 0 (second) and 1 (first); a tie is 0.5.")
    if not 0.0 <= exponent < np.inf:
        raise ValueError(f"exponent is {exponent}; it must be zero or positive, and finite.")


def canonical(
    differences: Float64[np.ndarray, "comparisons basis"], first_preferred: Float64[np.ndarray, " comparisons"]
) -> tuple[Float64[np.ndarray, "informative basis"], Float64[np.ndarray, " informative"]]:
    """The informative comparisons with canonical sides, in lexicographic order; pairs of equal candidates are dropped.

    Floating-point sums depend on the order of their terms; this makes them depend on the set of comparisons alone.
    The arguments are not changed.
    """
    informative = differences.any(axis=1)
    rows, answers = canonical_sides(differences[informative], first_preferred[informative])
    order = np.lexsort((answers, *rows.T[::-1]))
    return rows[order], answers[order]


def canonical_sides(
    differences: Float64[np.ndarray, "comparisons basis"], first_preferred: Float64[np.ndarray, " comparisons"]
) -> tuple[Float64[np.ndarray, "comparisons basis"], Float64[np.ndarray, " comparisons"]]:
    """Every comparison with the side first that makes its first non-zero difference positive, as new arrays."""
    leading = differences[np.arange(len(differences)), (differences != 0.0).argmax(axis=1)]
    rows = np.where(leading[:, None] < 0.0, -differences, differences) + 0.0  # the sum turns -0.0 into 0.0
    return rows, np.where(leading < 0.0, 1.0 - first_preferred, first_preferred)


def objective(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    coefficients: Float64[np.ndarray, " basis"],
    exponent: float = 1.0,
) -> float:
    """Negative log posterior in nats, up to a constant (Bishop, PRML, eq. 4.142); convex in ``coefficients``."""
    offset = coefficients - prior.mean
    margins = differences @ coefficients
    likelihood = first_preferred @ log_sigmoid(margins) + (1.0 - first_preferred) @ log_sigmoid(-margins)
    return float(0.5 * offset @ prior.precision @ offset - exponent * likelihood)


def gradient(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    coefficients: Float64[np.ndarray, " basis"],
    exponent: float = 1.0,
) -> Float64[np.ndarray, " basis"]:
    """Gradient of ``objective`` (K,): prior.precision (coefficients - prior.mean) + exponent * Dᵀ (p - answers)."""
    margins = differences @ coefficients
    # p - answer as a sum of tails: keeps its relative precision where the answer is nearly certain.
    residuals = (1.0 - first_preferred) * sigmoid(margins) - first_preferred * sigmoid(-margins)
    slope = prior.precision @ (coefficients - prior.mean) + exponent * (differences.T @ residuals)
    return np.asarray(slope, dtype=np.float64)


def precision(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    coefficients: Float64[np.ndarray, " basis"],
    exponent: float = 1.0,
) -> Float64[np.ndarray, "basis basis"]:
    """Hessian of ``objective`` (K, K), exactly symmetric: prior.precision + exponent * Dᵀ diag(p(1 - p)) D."""
    margins = differences @ coefficients
    scaled = np.sqrt(exponent * sigmoid(margins) * sigmoid(-margins))[:, None] * differences
    return np.asarray(prior.precision + scaled.T @ scaled, dtype=np.float64)


def _newton(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    exponent: float,
    tolerance: float,
) -> tuple[Float64[np.ndarray, " basis"], FitReport]:
    """Minimise ``objective`` from the prior's mean by Newton steps, halved until they decrease it enough."""
    coefficients = prior.mean
    value = objective(prior, differences, first_preferred, coefficients, exponent)
    for iteration in range(MAX_ITERATIONS + 1):
        slope = gradient(prior, differences, first_preferred, coefficients, exponent)
        step = np.linalg.solve(precision(prior, differences, coefficients, exponent), slope)
        decrement = float(slope @ step)  # squared
        report = FitReport(decrement <= tolerance**2, iteration, float(np.abs(slope).max()))
        if report.converged or iteration == MAX_ITERATIONS:
            break
        noise = ROUNDING * max(1.0, abs(value))
        for halvings in range(MAX_HALVINGS + 1):
            length = 0.5**halvings
            trial = coefficients - length * step
            trial_value = objective(prior, differences, first_preferred, trial, exponent)
            if trial_value <= value - SUFFICIENT_DECREASE * length * decrement + noise:
                break
        coefficients, value = trial, trial_value
    return coefficients, report
