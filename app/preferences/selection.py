"""Which pair to ask next. Knows pairs only by their rows of basis reward differences.

A rule maps a belief and the rows to one gain per row; ``select_pair`` asks the row with the largest gain.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from app.preferences.gaussian import Posterior
from app.preferences.logistic import NATS_PER_BIT, ROWS_PER_CHUNK, binary_entropy_bits, gauss_hermite, sigmoid

INFORMATION_NODES = 16
TIE_TOLERANCE = 1e-9  # relative: gains of equal pairs may differ by rounding, and then the lowest index wins

Rule = Callable[[Posterior, Float64[np.ndarray, "pairs basis"]], Float64[np.ndarray, " pairs"]]


@dataclass(frozen=True)
class Selection:
    """The pair to ask, by its row, and what its answer is expected to tell."""

    index: int
    expected_information_bits: float


def expected_information_bits(
    posterior: Posterior, differences: Float64[np.ndarray, "pairs basis"]
) -> Float64[np.ndarray, " pairs"]:
    """Mutual information between a pair's answer and the coefficients (BALD), by 16-point Gauss-Hermite quadrature.

    h(E p) - E h(p) with p = sigmoid(m), m ~ N(mean, variance) the pair's margin. Largest error against dense
    integration: 1e-4 bits for a standard deviation of 2 log-odds, 2e-3 for 3, 3e-2 for 5.

    Args:
        posterior: Belief about the coefficients.
        differences: Basis rewards of the first candidate minus the second; memory grows with the rows alone.

    Returns:
        Bits (N,), between 0 and 1; 0 for a pair of equal candidates.

    Raises:
        ValueError: If ``differences`` is not finite or has another K.
    Source:
        Houlsby et al., Bayesian Active Learning for Classification and Preference Learning (2011), eq. 2.
    """
    means, variances = posterior.project(differences)
    nodes, weights = gauss_hermite(INFORMATION_NODES)
    stds = np.sqrt(variances)
    information = np.empty_like(means)
    for start in range(0, len(means), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        information[rows] = _information_bits(means[rows, None] + stds[rows, None] * nodes, weights)
    return information


def d_optimal(posterior: Posterior, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
    """Gain in log-determinant of the precision at the current mean, log(1 + s v), in nats (N,).

    s is the answer's variance at the mean margin and v the margin's variance. Raises ``ValueError`` as
    ``Posterior.project`` does.

    Source:
        Chaloner and Verdinelli, Bayesian Experimental Design: A Review (1995), sec. 2.2, with a rank-one update.
    """
    means, variances = posterior.project(differences)
    return np.asarray(np.log1p(sigmoid(means) * sigmoid(-means) * variances), dtype=np.float64)


def reference_optimal(target_moment: Float64[np.ndarray, "basis basis"]) -> Rule:
    """Rule that lowers the mean variance of the margins a person will really be served (I- or V-optimality).

    The gain is s xᵀ C M C x / (1 + s v), with C the covariance and M = E[x xᵀ] over the served pairs, in squared
    log-odds (N,).

    Args:
        target_moment: Mean outer product of the served pairs' differences (K, K), positive semi-definite.

    Raises:
        ValueError: From the rule, if ``target_moment`` or the rows have another K.
    Source:
        Chaloner and Verdinelli (1995), sec. 2.3; Sherman-Morrison for the covariance after one more answer.
    """

    def gain(posterior: Posterior, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
        if target_moment.shape != posterior.precision.shape:
            raise ValueError(f"target_moment is {target_moment.shape}, the precision {posterior.precision.shape}.")
        means, variances = posterior.project(differences)
        slopes = sigmoid(means) * sigmoid(-means)
        spread = differences @ posterior.covariance()
        reduction = np.einsum("nk,kl,nl->n", spread, target_moment, spread, optimize=True)
        return np.asarray(slopes * reduction / (1.0 + slopes * variances), dtype=np.float64)

    return gain


def random_choice(rng: np.random.Generator) -> Rule:
    """Rule that asks any allowed pair with equal chance: the baseline of evaluations. Each use advances ``rng``."""

    def gain(_posterior: Posterior, differences: Float64[np.ndarray, "pairs basis"]) -> Float64[np.ndarray, " pairs"]:
        return rng.random(len(differences))

    return gain


def select_pair(
    posterior: Posterior,
    differences: Float64[np.ndarray, "pairs basis"],
    allowed: Bool[np.ndarray, " pairs"],
    *,
    rule: Rule = expected_information_bits,
) -> Selection | None:
    """Choose the allowed pair that gains most.

    Args:
        posterior: Belief about the coefficients.
        differences: Basis rewards of the first candidate minus the second, one row a pair.
        allowed: Rows that may be asked.
        rule: Gain of each row; only allowed rows are evaluated.

    Returns:
        The pair, the lowest row among equal gains; None if no row is allowed.

    Raises:
        ValueError: If ``allowed`` has another length than ``differences``, or these are not finite or have another K.
    """
    if allowed.shape != (len(differences),):
        raise ValueError(f"{len(differences)} pairs need as many entries in allowed, not {allowed.shape}.")
    rows = np.flatnonzero(allowed)
    if len(rows) == 0:
        return None
    gains = rule(posterior, differences[rows])
    best = gains.max()
    index = int(rows[np.flatnonzero(gains >= best - TIE_TOLERANCE * abs(best))[0]])
    bits = expected_information_bits(posterior, differences[index : index + 1])
    return Selection(index, float(bits[0]))


def _information_bits(
    margins: Float64[np.ndarray, "pairs nodes"], weights: Float64[np.ndarray, " nodes"]
) -> Float64[np.ndarray, " pairs"]:
    """h(E p) - E h(p) in bits over the nodes of each row; one exponential and one logarithm an entry."""
    distance = np.abs(margins)
    decay = np.exp(-distance)
    unlikely = decay / (1.0 + decay)  # probability of the less likely answer
    entropy = (np.log(1.0 + decay) + distance * unlikely) @ weights / NATS_PER_BIT
    probability = np.where(margins >= 0.0, 1.0 - unlikely, unlikely) @ weights
    return np.asarray(np.maximum(binary_entropy_bits(probability) - entropy, 0.0), dtype=np.float64)
