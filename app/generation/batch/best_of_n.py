"""Which candidates of a set are worth going on with. Pure arithmetic on numpy arrays."""

from math import erfc, sqrt

import numpy as np
from jaxtyping import Bool, Float64

CHECK_TOKENS = 8
"""Candidates are compared whenever so many more tokens were written."""


def hopeless(
    rewards: Float64[np.ndarray, " candidates"],
    variances: Float64[np.ndarray, " candidates"],
    drop_below: float,
) -> Bool[np.ndarray, " candidates"]:
    """Candidates whose chance of becoming the best of their set is below ``drop_below``.

    To become the best, a candidate i has to overtake the leader l, the one with the largest predicted reward. With
    independent Gaussian errors of the predictions the chance of that, which bounds the other from above, is

        Phi((rewards[i] - rewards[l]) / sqrt(variances[i] + variances[l])).

    The leader is never among them, nor anybody who is level with it.

    Args:
        rewards: Predicted rewards under one person's coefficients; known ones of candidates that are finished.
        variances: Variances of the predictions' errors; 0 for those that are known.
        drop_below: A chance between 0, which spares everybody, and 1/2, which spares nobody behind the leader.
    """
    leader = int(rewards.argmax())
    behind = rewards - rewards[leader]
    spread = np.sqrt(variances + variances[leader])
    with np.errstate(divide="ignore", invalid="ignore"):
        places = np.where(behind < 0, behind / spread, 0.0)
    chances = np.array([erfc(-place / sqrt(2)) / 2 for place in places])
    found: np.ndarray = (chances < drop_below) & (behind < 0)
    return found
