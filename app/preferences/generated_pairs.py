"""Questions that are written for one person: where to look, and which of the written candidates to compare.

Knows candidates only by their basis rewards, which are those of the texts as decoded, never those aimed at.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.belief import Belief
from app.preferences.information_search import TIE_TOLERANCE
from app.preferences.selection import expected_information_bits


@dataclass(frozen=True)
class TellingPair:
    """Two candidates by their index, ``first`` below ``second``, and what comparing them is expected to tell."""

    first: int
    second: int
    bits: float


def uncertain_direction(
    belief: Belief, target_moment: Float64[np.ndarray, "basis basis"] | None = None
) -> Float64[np.ndarray, " basis"]:
    """The direction of coefficients that is least known, one standard deviation long.

    The first principal component of the belief, with a coefficient vector's length measured by the margins it gives to
    the served pairs, E (c @ x)² = cᵀ M c. Decoding one candidate with ``mean + direction`` and one with
    ``mean - direction`` shows what two plausible people of opposite taste would be served.

    Args:
        belief: Belief about the coefficients.
        target_moment: M, mean outer product of the served pairs' differences (K, K), positive semi-definite; None
            counts every basis reward alike.

    Returns:
        C^½ u (K,), u the top unit eigenvector of C^½ M C^½ and C the covariance; the entry of largest size is positive.

    Raises:
        ValueError: If ``target_moment`` has another K.
    Source:
        Shenfeld et al. (2025), sec. 4.2: the top eigenvector of the inverse curvature, here in the served metric.
    """
    moment = np.eye(belief.size) if target_moment is None else target_moment
    if moment.shape != (belief.size, belief.size):
        raise ValueError(f"target_moment is {moment.shape}; pass one of ({belief.size}, {belief.size}).")
    values, vectors = np.linalg.eigh(belief.covariance())
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    top = np.linalg.eigh(root @ moment @ root)[1][:, -1]
    direction = root @ top
    return np.asarray(direction * (1.0 if direction[np.argmax(np.abs(direction))] >= 0.0 else -1.0), dtype=np.float64)


def most_telling_pair(belief: Belief, basis_rewards: Float64[np.ndarray, "candidates basis"]) -> TellingPair:
    """The two candidates whose comparison tells most about the person.

    Args:
        belief: Belief about the coefficients.
        basis_rewards: Rewards (N, K) of the candidates of one prompt as decoded, N >= 2.

    Returns:
        The pair; among equals the lowest first, then the lowest second.

    Raises:
        ValueError: If there are fewer than two candidates, a reward is not finite or K disagrees.
    """
    if len(basis_rewards) < 2:
        raise ValueError(f"A comparison takes two candidates, not {len(basis_rewards)}; decode more.")
    first, second = np.triu_indices(len(basis_rewards), k=1)
    bits = expected_information_bits(belief, basis_rewards[first] - basis_rewards[second])
    best = int(np.flatnonzero(bits >= bits.max() * (1.0 - TIE_TOLERANCE))[0])
    return TellingPair(int(first[best]), int(second[best]), float(bits[best]))
