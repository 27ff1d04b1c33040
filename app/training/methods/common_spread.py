"""Chooses how far the population's reward may vary, by how well it predicts comparisons of texts not learned from.

Comparisons are many and texts few: a penalty that suits the one is far too weak for the other.
"""

from dataclasses import replace
from itertools import product

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.preferences.logistic import sigmoid
from app.preferences.population import SMALLEST_PROBABILITY
from app.training.methods.data import BasisMethod, TrainingData
from app.training.methods.design import SHRINKAGE
from app.training.methods.groups import connected
from app.training.methods.uniform import Uniform
from app.training.methods.variational import COMMON_SPREAD, Variational

COMMON_SPREADS = (1.0, 0.6, 3.0, 0.3, 0.15)
SHRINKAGES = (SHRINKAGE, 100.0)
"""With little shrinkage every direction of the features counts alike; with much, each by its own variance."""
HELD_OUT_ROWS = 0.3
FEWEST_GROUPS = 6
DRAWS = 4
ITERATIONS = 30

Settings = tuple[float, float]
"""Common spread and shrinkage."""


def choose_common_spread(data: TrainingData, method: BasisMethod, rng: np.random.Generator) -> BasisMethod:
    """``method`` with the common spread and shrinkage that predict held-out texts.

    Of the settings within one standard error of the best, the one closest to the default: where texts cannot tell,
    nothing changes. Held out, ``DRAWS`` times, are groups of texts that no comparison connects with others, or single
    texts where groups are few. Items without features cannot be held out: then, and for methods without a common
    spread, ``method`` is returned as it is.
    """
    if data.features is None or not isinstance(method, Variational | Uniform):
        return method
    candidates = sorted(product(COMMON_SPREADS, SHRINKAGES), key=_distance)
    groups = _groups(data)
    losses = np.zeros((len(candidates), data.rows))
    counts = np.zeros(data.rows)
    for _ in range(DRAWS):
        held = _held_out(data, groups, rng)
        learned, tested = ~held[data.first] & ~held[data.second], held[data.first] & held[data.second]
        if learned.any() and tested.any():
            group = groups[data.first[tested]]
            counts += np.bincount(group, minlength=data.rows)
            for row, settings in enumerate(candidates):
                losses[row] += np.bincount(group, _losses(data, learned, tested, settings), minlength=data.rows)
    if not counts.any():
        return method
    spread, shrinkage = candidates[_closest(losses, counts)]
    return replace(method, common_spread=spread, shrinkage=shrinkage)


def _distance(settings: Settings) -> float:
    """From the default, in factors."""
    return float(abs(np.log(settings[0] / COMMON_SPREAD)) + abs(np.log(settings[1] / SHRINKAGE)))


def _closest(losses: Float64[np.ndarray, "candidates groups"], counts: Float64[np.ndarray, " groups"]) -> int:
    """The first candidate whose mean loss is within one standard error, over groups, of the best."""
    gaps = losses - losses[losses.sum(axis=1).argmin()]
    means = gaps.sum(axis=1) / counts.sum()
    errors = np.sqrt(np.square(gaps - means[:, None] * counts).sum(axis=1)) / counts.sum()
    return int(np.flatnonzero(means <= errors)[0])


def _losses(
    data: TrainingData,
    learned: Bool[np.ndarray, " comparisons"],
    tested: Bool[np.ndarray, " comparisons"],
    settings: Settings,
) -> Float64[np.ndarray, " tested"]:
    """Log-loss in nats of each tested comparison under one reward for everyone."""
    method = Uniform(common_spread=settings[0], shrinkage=settings[1], iterations=ITERATIONS)
    rewards = method.fit(data.where(learned), np.random.default_rng(0)).rewards(data.features)[:, 0]
    chances = sigmoid(rewards[data.first[tested]] - rewards[data.second[tested]])
    chances = np.clip(chances, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    labels = data.labels[tested]
    return np.asarray(-(labels * np.log(chances) + (1.0 - labels) * np.log1p(-chances)), dtype=np.float64)


def _groups(data: TrainingData) -> Int64[np.ndarray, " rows"]:
    groups = connected(data.first, data.second, data.rows)
    return np.arange(data.rows) if len(np.unique(groups[data.first])) < FEWEST_GROUPS else groups


def _held_out(
    data: TrainingData, groups: Int64[np.ndarray, " rows"], rng: np.random.Generator
) -> Bool[np.ndarray, " rows"]:
    names = np.unique(groups[data.first])
    return np.isin(groups, rng.permutation(names)[: max(1, round(HELD_OUT_ROWS * len(names)))])
