"""How much a pair's answer tells about the person, from its margin alone. Knows nothing of rows or coefficients.

``information_bits`` is the number; ``information_bound`` is a cheap number that is never below it, so that a search
through many pairs evaluates few of them.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Float64

from app.preferences.belief import Margins
from app.preferences.logistic import NATS_PER_BIT, binary_entropy_bits, gauss_hermite

INFORMATION_NODES = 16
ENTRIES_PER_CHUNK = 16_384  # rows x components x nodes; stays in the second-level cache

BOUND_STEPS = 16  # grid points a log-odds
BOUND_LARGEST_STD = 8
BOUND_LARGEST_MEAN = 64  # the outermost node lies 6.6 standard deviations out: nothing is left beyond
BOUND_SLACK = 1.05  # between grid points the ratio exceeds the corners by at most 0.04 of itself
BOUND_ROUNDING_BITS = 1e-14  # of the difference of two entropies


def information_bits(margins: Margins) -> Float64[np.ndarray, " pairs"]:
    """Mutual information between an answer and the coefficients (BALD), by 16-point Gauss-Hermite quadrature.

    h(sum_c w_c E_c p) - sum_c w_c E_c h(p) with p = sigmoid(m) and m Gaussian in each component c. Largest error
    against dense integration: 1e-4 bits for a standard deviation of 2 log-odds, 2e-3 for 3, 3e-2 for 5. Components
    that are points need no quadrature.

    Args:
        margins: Distribution of each pair's margin.

    Returns:
        Bits (N,), between 0 and 1; 0 for a pair of equal candidates.

    Source:
        Houlsby et al., Bayesian Active Learning for Classification and Preference Learning (2011), eq. 2.
    """
    points_only = not margins.variances.any()
    nodes, node_weights = gauss_hermite(1 if points_only else INFORMATION_NODES)
    weights = np.outer(margins.weights, node_weights).ravel()
    information = np.empty(len(margins.means))
    step = max(1, ENTRIES_PER_CHUNK // len(weights))
    for start in range(0, len(information), step):
        rows = slice(start, start + step)
        points = margins.means[rows] if points_only else _quadrature_points(margins, rows, nodes)
        information[rows] = _bits_of_points(points, weights)
    return information


def gaussian_information_bits(
    means: Float64[np.ndarray, " pairs"], variances: Float64[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """``information_bits`` (N,) of Gaussian margins with ``means`` and ``variances``, in log-odds and their square."""
    return information_bits(Margins(np.ones(1), means[:, None], variances[:, None]))


def information_bound(
    means: Float[np.ndarray, " pairs"], variances: Float[np.ndarray, " pairs"]
) -> Float64[np.ndarray, " pairs"]:
    """Bits (N,) that ``gaussian_information_bits`` never exceeds, for these variances and for all smaller ones.

    One table look-up a pair, in double or single precision. About a tenth above the information for standard
    deviations up to 8 log-odds; one bit beyond. The bound of a mean of zero holds for every mean.

    Args:
        means: Log-odds (N,).
        variances: Squared log-odds (N,), not negative.
    """
    table = _bound_table()
    row = np.minimum(np.abs(means) * BOUND_STEPS, len(table) - 1).astype(np.intp)
    column = np.minimum(np.sqrt(variances) * BOUND_STEPS, table.shape[1] - 1).astype(np.intp)
    bound = table.ravel()[row * table.shape[1] + column] * variances + BOUND_ROUNDING_BITS
    return np.asarray(np.minimum(bound, 1.0), dtype=np.float64)


def least_variance(bits: float) -> float:
    """Squared log-odds below which ``information_bound`` is less than ``bits`` for every mean; zero for no bits."""
    table = _bound_table()[0]
    starts = np.square(np.arange(len(table)) / BOUND_STEPS)
    enough = np.maximum(starts, (bits - BOUND_ROUNDING_BITS) / table)
    reached = enough < np.append(starts[1:], np.inf)
    return float(enough[np.argmax(reached)])


@lru_cache(maxsize=1)
def _bound_table() -> Float64[np.ndarray, "means stds"]:
    """Largest information over the variance in every cell of a grid, made monotone in both directions.

    The ratio changes slowly down to a variance of zero, where it is sigmoid'(mean) / (2 ln 2); the last column stands
    for all larger standard deviations, where the bound is one bit.
    """
    means = np.arange(BOUND_LARGEST_MEAN * BOUND_STEPS + 1) / BOUND_STEPS
    stds = np.arange(BOUND_LARGEST_STD * BOUND_STEPS + 1) / BOUND_STEPS
    stds[0] = 1e-3
    grid_means, grid_stds = (grid.ravel() for grid in np.meshgrid(means, stds, indexing="ij"))
    bits = gaussian_information_bits(grid_means, np.square(grid_stds)).reshape(len(means), len(stds))
    bits = np.maximum.accumulate(np.maximum.accumulate(bits[::-1], axis=0)[::-1], axis=1)
    ratios = bits / np.square(stds)
    ratios = np.maximum(ratios[:-1], ratios[1:])
    table = np.empty((len(means) - 1, len(stds)))
    table[:, :-1] = BOUND_SLACK * np.maximum(ratios[:, :-1], ratios[:, 1:])
    table[:, -1] = 1.0
    table.flags.writeable = False
    return table


def _quadrature_points(
    margins: Margins, rows: slice, nodes: Float64[np.ndarray, " nodes"]
) -> Float64[np.ndarray, "rows points"]:
    """Margins in log-odds at the nodes of every component of some rows, component after component."""
    stds = np.sqrt(margins.variances[rows])
    points = margins.means[rows, :, None] + stds[:, :, None] * nodes
    return np.asarray(points.reshape(len(points), -1), dtype=np.float64)


def _bits_of_points(
    points: Float64[np.ndarray, "pairs points"], weights: Float64[np.ndarray, " points"]
) -> Float64[np.ndarray, " pairs"]:
    """h(E p) - E h(p) in bits over the points of each row; one exponential and one logarithm an entry."""
    distance = np.abs(points)
    decay = np.exp(-distance)
    unlikely = decay / (1.0 + decay)  # probability of the less likely answer
    entropy = (np.log(1.0 + decay) + distance * unlikely) @ weights / NATS_PER_BIT
    probability = np.where(points >= 0.0, 1.0 - unlikely, unlikely) @ weights
    return np.asarray(np.maximum(binary_entropy_bits(probability) - entropy, 0.0), dtype=np.float64)
