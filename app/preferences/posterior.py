"""From a person's answers to a Gaussian posterior. Knows nothing of where answers come from or what they are used for.

The posterior is derived data: it is fitted again from all comparisons, never updated in place. Rows are brought into
a canonical order first, so that replaying the same answers in any order, with any side shown first, gives the same
bits.
"""

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.gaussian import Posterior, check_rows
from app.preferences.likelihood import answer_terms

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
]

LARGEST_DIFFERENCE = 1e6  # beyond it a precision matrix of 64-bit numbers cannot hold prior and answers at once
MAX_ITERATIONS = 200
MAX_HALVINGS = 60
SUFFICIENT_DECREASE = 1e-4  # Armijo's constant
ROUNDING = 8.0 * float(np.finfo(np.float64).eps)  # relative noise of the objective that a line search must forgive
LAPSE_TOLERANCE = 1e-5  # with lapses, where steps by the expected curvature near the end more slowly than Newton's
PLAIN = ResponseModel()

Vector = Float64[np.ndarray, " basis"]
Matrix = Float64[np.ndarray, "basis basis"]


def fit_posterior(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    *,
    weights: Float64[np.ndarray, " comparisons"] | None = None,
    response: ResponseModel = PLAIN,
    tolerance: float = 1e-8,
) -> tuple[Posterior, FitReport]:
    """Fit the Laplace approximation to p(coefficients | comparisons).

    precision = prior.precision + exponent * Dᵀ diag(weight * information) D, evaluated at the MAP, which damped Newton
    finds from the prior's mean. The information is p(1 - p) unless ``response`` knows of ties or lapses. With lapses
    the posterior may have several modes; the steps use the expected curvature and end at a stationary point downhill
    from the prior's mean. Swapping the sides of a pair together with its answer, and the order of the rows, change no
    bit of the result; pairs of equal candidates say nothing and are left out.

    Args:
        prior: Belief before these comparisons.
        differences: Basis rewards of the first candidate minus the second.
        first_preferred: 1.0 where the first candidate was preferred, 0.0 where the second, 0.5 for a tie.
        weights: How many full answers each one counts for; None counts each as one.
        response: How answers follow from margins.
        tolerance: Newton decrement accepted as converged: the distance to the MAP in posterior standard deviations;
            at least ``LAPSE_TOLERANCE`` with lapses.

    Returns:
        The posterior and how the fit ended; with no informative comparison, the prior itself.

    Raises:
        ValueError: If ``differences`` is not finite, exceeds a million or disagrees with the prior on K, an answer is
            outside [0, 1], or a weight is negative or not finite.
    Source:
        Bishop, PRML (2006), sec. 4.5.1, the expression for S_N; Nocedal and Wright (2006), alg. 3.1, for the damping.
    """
    answers = Answers.of(differences, first_preferred, weights)
    check_answers(answers, prior.size)
    answers = canonical(answers)
    if len(answers) == 0 or response.exponent == 0.0:
        return prior, FitReport(converged=True, iterations=0, largest_gradient=0.0)
    mean, curvature, report = _newton(prior, answers, response, tolerance)
    return Posterior(mean, curvature), report


def check_answers(answers: Answers, size: int) -> None:
    """Refuse comparisons that cannot be fitted, with a ``ValueError`` that names what is wrong."""
    differences, first_preferred, weights = answers.differences, answers.first_preferred, answers.weights
    check_rows(differences, size)
    if differences.size and np.abs(differences).max() > LARGEST_DIFFERENCE:
        raise ValueError(f"A difference is {np.abs(differences).max():g}; standardise the basis rewards to about 1.")
    if not first_preferred.shape == weights.shape == (len(differences),):
        raise ValueError(
            f"{len(differences)} comparisons need as many answers and weights, "
            f"not {first_preferred.shape} and {weights.shape}."
        )
    if not ((first_preferred >= 0.0) & (first_preferred <= 1.0)).all():
        raise ValueError("first_preferred must lie between 0 (second) and 1 (first); a tie is 0.5.")
    if not ((weights >= 0.0) & (weights < np.inf)).all():
        raise ValueError("weights must be zero or positive, and finite; 1 counts an answer fully.")


def canonical(answers: Answers) -> Answers:
    """The informative answers with canonical sides, in lexicographic order; equal candidates and zero weights go.

    Floating-point sums depend on the order of their terms; this makes them depend on the set of comparisons alone.
    The argument is not changed.
    """
    informative = answers.differences.any(axis=1) & (answers.weights > 0.0)
    rows, labels = canonical_sides(answers.differences[informative], answers.first_preferred[informative])
    weights = answers.weights[informative]
    order = np.lexsort((weights, labels, *rows.T[::-1]))
    return Answers(rows[order], labels[order], weights[order])


def canonical_sides(
    differences: Float64[np.ndarray, "comparisons basis"], first_preferred: Float64[np.ndarray, " comparisons"]
) -> tuple[Float64[np.ndarray, "comparisons basis"], Float64[np.ndarray, " comparisons"]]:
    """Every comparison with the side first that makes its first non-zero difference positive, as new arrays."""
    leading = differences[np.arange(len(differences)), (differences != 0.0).argmax(axis=1)]
    rows = np.where(leading[:, None] < 0.0, -differences, differences) + 0.0  # the sum turns -0.0 into 0.0
    return rows, np.where(leading < 0.0, 1.0 - first_preferred, first_preferred)


def objective(prior: Posterior, answers: Answers, coefficients: Vector, response: ResponseModel = PLAIN) -> float:
    """Negative log posterior in nats, up to a constant (Bishop, PRML, eq. 4.142); convex if there are no lapses."""
    return _evaluate(prior, answers, coefficients, response)[0]


def gradient(prior: Posterior, answers: Answers, coefficients: Vector, response: ResponseModel = PLAIN) -> Vector:
    """Gradient of ``objective`` (K,): prior.precision (coefficients - prior.mean) + exponent Dᵀ (weights * slopes)."""
    return _evaluate(prior, answers, coefficients, response)[1]


def precision(
    prior: Posterior,
    differences: Float64[np.ndarray, "comparisons basis"],
    coefficients: Vector,
    weights: Float64[np.ndarray, " comparisons"] | None = None,
    response: ResponseModel = PLAIN,
) -> Matrix:
    """Expected Hessian of ``objective`` (K, K), exactly symmetric; the Hessian itself if there are no lapses.

    prior.precision + exponent * Dᵀ diag(weights * information) D; what was answered does not enter.
    """
    answers = Answers.of(differences, np.full(len(differences), 0.5), weights)
    return _curvature(prior, answers, _evaluate(prior, answers, coefficients, response)[2])


def _evaluate(
    prior: Posterior, answers: Answers, coefficients: Vector, response: ResponseModel
) -> tuple[float, Vector, Float64[np.ndarray, " comparisons"]]:
    """Objective, its gradient, and the information of every answer, weighted: all from one pass over the margins."""
    offset = coefficients - prior.mean
    pull = prior.precision @ offset
    terms = answer_terms(answers.differences @ coefficients, answers.first_preferred, response)
    weights = response.exponent * answers.weights
    value = 0.5 * float(offset @ pull) + float(weights @ terms.losses)
    return value, pull + (weights * terms.slopes) @ answers.differences, weights * terms.information


def _curvature(prior: Posterior, answers: Answers, information: Float64[np.ndarray, " comparisons"]) -> Matrix:
    """prior.precision + Dᵀ diag(information) D, as a product with its own transpose: exactly symmetric."""
    scaled = np.sqrt(information)[:, None] * answers.differences
    return np.asarray(prior.precision + scaled.T @ scaled, dtype=np.float64)


def _newton(
    prior: Posterior, answers: Answers, response: ResponseModel, tolerance: float
) -> tuple[Vector, Matrix, FitReport]:
    """Minimise ``objective`` from the prior's mean by Newton steps, halved until they decrease it enough.

    Returns the minimum, the curvature there, and how it went.
    """
    enough = tolerance if response.lapse == 0.0 else max(tolerance, LAPSE_TOLERANCE)
    coefficients = prior.mean
    value, slope, information = _evaluate(prior, answers, coefficients, response)
    for iteration in range(MAX_ITERATIONS + 1):
        curvature = _curvature(prior, answers, information)
        step = np.linalg.solve(curvature, slope)
        decrement = float(slope @ step)  # squared
        if decrement <= enough**2 or iteration == MAX_ITERATIONS:
            break
        noise = ROUNDING * max(1.0, abs(value))
        for halvings in range(MAX_HALVINGS + 1):
            length = 0.5**halvings
            trial = coefficients - length * step
            trial_value, slope, information = _evaluate(prior, answers, trial, response)
            if trial_value <= value - SUFFICIENT_DECREASE * length * decrement + noise:
                break
        coefficients, value = trial, trial_value
    return coefficients, curvature, FitReport(decrement <= enough**2, iteration, float(np.abs(slope).max()))
