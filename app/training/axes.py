"""Turns K learned basis rewards so that each is easy to name, and names it from held-out data.

Rewards depend on heads and coefficients only through their product, so any invertible turn of the
basis is as good a model. The turn chosen here points an axis at each measurable property of text that
the rewards explain, by regression, so that axes correlate as the properties do; what is left over is
uncorrelated with them and with itself. All axes have unit spread over texts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.entities import Axis
from app.preferences.gaussian import Posterior
from app.training.properties import PROPERTIES

NAMED_FROM = 0.3
"""Smallest held-out correlation with which an axis takes a property's name."""
DISTINCT = 0.1
"""Smallest share of a direction's variance that must be its own: nearly equal axes would share a taste at random."""

SMALLEST_VARIANCE = 1e-12
"""Of rewards over texts, in squared log-odds: a basis that says the same of every text can be turned too."""


@dataclass(frozen=True)
class Turn:
    """``matrix`` (K, K) and ``centre`` (K,): turned rewards = matrix @ (rewards - centre).

    ``properties`` (K,) is the property that each turned axis follows, -1 for none.
    """

    matrix: Float64[np.ndarray, "basis basis"]
    centre: Float64[np.ndarray, " basis"]
    properties: tuple[int, ...]

    def apply(self, rewards: Float64[np.ndarray, "texts basis"]) -> Float64[np.ndarray, "texts basis"]:
        """Turned basis rewards of texts."""
        turned: Float64[np.ndarray, "texts basis"] = (rewards - self.centre) @ self.matrix.T
        return turned

    def coefficients(self, old: Float64[np.ndarray, "people basis"]) -> Float64[np.ndarray, "people basis"]:
        """Coefficients on the turned basis that give every pair of texts the same reward difference."""
        turned: Float64[np.ndarray, "people basis"] = old @ np.linalg.inv(self.matrix)
        return turned

    def belief(self, old: Posterior) -> Posterior:
        """The same belief about rewards, as coefficients on the turned basis."""
        precision = self.matrix @ old.precision @ self.matrix.T
        return Posterior(self.coefficients(old.mean[None])[0], (precision + precision.T) / 2.0)


def find_turn(rewards: Float64[np.ndarray, "texts basis"], properties: Float64[np.ndarray, "texts properties"]) -> Turn:
    """Regress properties on the basis rewards; the best explained ones, as far as they are distinct, become axes.

    A property is followed if the rewards' multiple correlation with it is at least ``NAMED_FROM`` and at least
    ``DISTINCT`` of the variance of its direction lies outside of those followed before it. The remaining axes are
    uncorrelated with all others and follow none.
    """
    size, centre = rewards.shape[1], rewards.mean(0)
    values, vectors = np.linalg.eigh(np.cov((rewards - centre).T).reshape(size, -1))
    whiten = (vectors / np.sqrt(np.maximum(values, max(1e-9 * values.max(), SMALLEST_VARIANCE)))).T
    scores = (properties - properties.mean(0)) / np.maximum(properties.std(0), 1e-9)
    directions = scores.T @ ((rewards - centre) @ whiten.T) / len(rewards)
    followed = _distinct(directions, size)
    axes = directions[followed] / np.linalg.norm(directions[followed], axis=1, keepdims=True)
    rest = np.linalg.svd(axes, full_matrices=True)[2][len(followed) :] if followed else np.eye(size)
    matrix = np.vstack([axes, rest]) @ whiten
    return Turn(matrix, centre, (*followed, *[-1] * (size - len(followed))))


def _distinct(directions: Float64[np.ndarray, "properties basis"], size: int) -> list[int]:
    """Up to ``size`` properties whose directions are long enough and not nearly in the span of longer ones."""
    left, lengths = directions.copy(), (directions**2).sum(1)
    chosen: list[int] = []
    while len(chosen) < size:
        outside = (left**2).sum(1)
        open_ = (lengths >= NAMED_FROM**2) & (outside >= DISTINCT * lengths)
        open_[chosen] = False
        if not open_.any():
            break
        best = int(np.where(open_, outside, -1.0).argmax())
        chosen.append(best)
        axis = left[best] / outside[best] ** 0.5
        left = left - np.outer(left @ axis, axis)
    return sorted(chosen)


def name_axes(
    turn: Turn,
    rewards: Float64[np.ndarray, "texts basis"],
    properties: Float64[np.ndarray, "texts properties"],
) -> tuple[tuple[Axis, ...], list[float]]:
    """Names of the turned axes and their correlation with the property, on texts kept out of the fit.

    Args:
        turn: From ``find_turn`` on other texts.
        rewards: Turned basis rewards of the held-out texts.
        properties: Measured properties of the same texts.
    """
    axes, correlations = [], []
    for index, followed in enumerate(turn.properties):
        score = _correlation(rewards[:, index], properties[:, followed]) if followed >= 0 else 0.0
        known = PROPERTIES[followed] if score >= NAMED_FROM else None
        name = known.name if known else f"axis {index}"
        axes.append(
            Axis(index, name, known.high if known else f"more of {name}", known.low if known else f"less of {name}")
        )
        correlations.append(score)
    return tuple(axes), correlations


def _correlation(one: Float64[np.ndarray, " texts"], other: Float64[np.ndarray, " texts"]) -> float:
    """Pearson's correlation; 0 where one side does not vary or there are no texts."""
    if len(one) < 2 or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
