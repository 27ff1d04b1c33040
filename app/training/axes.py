"""Turns K learned basis rewards so that each is easy to name, and names it from held-out data.

Rewards depend on heads and coefficients only through their product, so any invertible turn of the
basis is as good a model. The turn chosen here makes the basis rewards uncorrelated with unit spread
over texts, and then as close as an orthogonal turn can bring them to measurable properties of text.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.entities import Axis
from app.training.properties import PROPERTIES

NAMED_FROM = 0.3
"""Smallest held-out correlation with which an axis takes a property's name."""


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


def find_turn(rewards: Float64[np.ndarray, "texts basis"], properties: Float64[np.ndarray, "texts properties"]) -> Turn:
    """Whiten the basis rewards, then rotate them towards the properties (orthogonal Procrustes).

    With fewer basis rewards than properties, the best explained properties are followed; with more,
    the remaining axes keep what is left over and follow none.
    """
    centre = rewards.mean(0)
    values, vectors = np.linalg.eigh(np.cov((rewards - centre).T).reshape(rewards.shape[1], -1))
    whiten = (vectors / np.sqrt(np.maximum(values, 1e-9 * values.max()))).T
    white = (rewards - centre) @ whiten.T
    scores = (properties - properties.mean(0)) / np.maximum(properties.std(0), 1e-9)
    correlations = scores.T @ white / len(white)
    explained = (correlations**2).sum(1)
    followed = np.sort(np.argsort(-explained)[: white.shape[1]])
    left, _, right = np.linalg.svd(correlations[followed], full_matrices=True)
    size = len(followed)
    rotation = np.vstack([left @ right[:size], right[size:]])
    return Turn(rotation @ whiten, centre, (*map(int, followed), *[-1] * (white.shape[1] - size)))


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
