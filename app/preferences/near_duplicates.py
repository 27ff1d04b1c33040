"""Pairs that ask almost what was asked before. Knows pairs only by their rows of basis reward differences."""

import numpy as np
from jaxtyping import Bool, Float64

DUPLICATE_DISTANCE = 0.05
"""Relative distance below which two pairs ask the same.

Their margins then differ by at most a twentieth of the larger row's length times the coefficients' length, whoever
the person is: an answer to one is an answer to the other.
"""


def near_duplicates(
    differences: Float64[np.ndarray, "pairs basis"],
    asked: Float64[np.ndarray, "asked basis"],
    *,
    distance: float = DUPLICATE_DISTANCE,
) -> Bool[np.ndarray, " pairs"]:
    """Which pairs are almost the same, up to a swap of sides, as a pair that was asked.

    x and a are, if min(|x - a|, |x + a|) <= distance * max(|x|, |a|).

    Args:
        differences: Basis rewards of the first candidate minus the second.
        asked: The rows that were asked; may have none.
        distance: Largest relative distance of duplicates, zero or positive; at 1 and above, all pairs are.

    Returns:
        True for the pairs (N,) not worth asking while others remain. Memory grows with pairs times asked.

    Raises:
        ValueError: If the rows have different K, or ``distance`` is negative or NaN.
    """
    if asked.shape[1] != differences.shape[1]:
        raise ValueError(
            f"asked has {asked.shape[1]} basis rewards, differences {differences.shape[1]}; pass one basis."
        )
    if not distance >= 0.0:
        raise ValueError(f"distance is {distance}; it must be zero or positive.")
    lengths, asked_lengths = (np.einsum("nk,nk->n", rows, rows) for rows in (differences, asked))
    separation = lengths[:, None] + asked_lengths - 2.0 * np.abs(differences @ asked.T)
    largest = np.maximum(lengths[:, None], asked_lengths)
    # Rounding leaves a few units in the last place of the squares, also between equal rows.
    return np.asarray((separation <= (distance**2 + 1e-14) * largest).any(axis=1), dtype=np.bool_)
