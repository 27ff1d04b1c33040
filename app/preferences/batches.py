"""Several questions at once, for forms that are answered offline. Knows pairs only by their rows and prompts."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.preferences.belief import Belief
from app.preferences.information import INFORMATION_NODES
from app.preferences.information_search import InformationSearch
from app.preferences.logistic import gauss_hermite, sigmoid
from app.preferences.near_duplicates import near_duplicates


def select_batch(
    belief: Belief,
    differences: Float64[np.ndarray, "pairs basis"],
    allowed: Bool[np.ndarray, " pairs"],
    count: int,
    *,
    prompts: Int64[np.ndarray, " pairs"] | None = None,
    new: Bool[np.ndarray, " pairs"] | None = None,
    asked: Float64[np.ndarray, "asked basis"] | None = None,
    minimum_bits: float = 0.0,
) -> Int64[np.ndarray, " chosen"]:
    """Choose pairs whose answers tell most together, greedily.

    Each pair is the one that tells most after the answers to those before it are in, whatever they are: an answer
    lowers the covariance by s C x xᵀ C / (1 + s v), with s = E sigmoid'(m) the expected curvature. Margins count as
    Gaussian with the belief's mean and covariance. Pairs are taken from the first of these that has one worth asking:
    of a new prompt; of a prompt not yet in the batch; of any prompt; near-duplicates of ``asked`` or of the batch.

    Args:
        belief: Belief about the coefficients.
        differences: Basis rewards of the first candidate minus the second, one row a pair.
        allowed: Rows that may be asked.
        count: Most pairs to choose, zero or more.
        prompts: A number for each pair's prompt; None means that all differ.
        new: Pairs whose prompts the person has not seen; None means all.
        asked: Rows asked before.
        minimum_bits: A pair that tells less, after the answers to those before it, is not worth asking.

    Returns:
        The rows in the order of choice, all different; fewer than ``count`` only if fewer are allowed or worth asking.

    Raises:
        ValueError: If ``count`` is negative, lengths disagree, or the rows are not finite or have another K.
    Source:
        Krause and Guestrin, Near-optimal Nonmyopic Value of Information in Graphical Models (2005), for the greedy
        choice; Sherman-Morrison for the covariance.
    """
    numbers = np.arange(len(differences)) if prompts is None else prompts
    unseen = np.ones(len(differences), dtype=np.bool_) if new is None else new
    if count < 0 or not allowed.shape == unseen.shape == numbers.shape == (len(differences),):
        raise ValueError(
            f"count is {count}, allowed {allowed.shape}, prompts {numbers.shape}, new {unseen.shape}; "
            f"pass a count of zero or more and one entry a pair, ({len(differences)},)."
        )
    means, variances = belief.project(differences)
    covariance = belief.covariance()
    remaining, fresh = allowed.copy(), np.ones(len(differences), dtype=np.bool_)
    distinct = fresh if asked is None else ~near_duplicates(differences, asked)
    chosen: list[int] = []
    for _ in range(count):
        classes = (remaining & distinct & fresh & unseen, remaining & distinct & fresh, remaining & distinct, remaining)
        index = _first_worth_asking(means, variances, classes, minimum_bits)
        if index is None:
            break
        chosen.append(index)
        row = differences[index]
        spread = covariance @ row
        slope = _expected_slope(means[index], variances[index])
        shrinkage = slope / (1.0 + slope * variances[index])
        variances = np.maximum(variances - shrinkage * np.square(differences @ spread), 0.0)
        covariance = covariance - shrinkage * np.outer(spread, spread)
        remaining[index] = False
        distinct = distinct & ~near_duplicates(differences, row[None])
        fresh = fresh & (numbers != numbers[index])
    return np.asarray(chosen, dtype=np.int64)


def _first_worth_asking(
    means: Float64[np.ndarray, " pairs"],
    variances: Float64[np.ndarray, " pairs"],
    classes: Iterable[Bool[np.ndarray, " pairs"]],
    minimum_bits: float,
) -> int | None:
    """The row that tells most in the first class where that is ``minimum_bits`` or more; None if there is none."""
    for mask in classes:
        rows = np.flatnonzero(mask)
        search = InformationSearch()
        search.offer(rows, means[rows], variances[rows])
        found = search.result()
        if found is not None and found[1] >= minimum_bits:
            return found[0]
    return None


def _expected_slope(mean: float, variance: float) -> float:
    """E sigmoid'(m) for m ~ N(mean, variance)."""
    nodes, weights = gauss_hermite(INFORMATION_NODES)
    margins = mean + np.sqrt(variance) * nodes
    return float((sigmoid(margins) * sigmoid(-margins)) @ weights)
