"""Chooses how far the population's reward may vary, by how well it predicts comparisons of texts not learned from.

Comparisons are many and texts few: a penalty that suits the one is far too weak for the other.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from app.preferences.logistic import sigmoid
from app.preferences.population import log_loss
from app.training.methods.data import BasisMethod, TrainingData
from app.training.methods.groups import connected
from app.training.methods.uniform import Uniform
from app.training.methods.variational import Variational

COMMON_SPREADS = (3.0, 1.0, 0.6, 0.3, 0.15)
SHRINKAGES = (3.0, 100.0)
"""With little shrinkage every direction of the features counts alike; with much, each by its own variance."""
HELD_OUT_ROWS = 0.3
FEWEST_GROUPS = 6


def choose_common(data: TrainingData, method: BasisMethod, rng: np.random.Generator) -> BasisMethod:
    """``method`` with the common spread and the shrinkage of the least held-out log-loss.

    Factors then vary at most half as far as the population's reward. Held out are groups of texts that no comparison
    connects with others, or single texts where groups are few. Items without features cannot be held out: then, and for
    methods without a common spread, ``method`` is returned as it is.
    """
    if data.features is None or not isinstance(method, Variational | Uniform):
        return method
    held = _held_out(data, rng)
    learned, tested = ~held[data.first] & ~held[data.second], held[data.first] & held[data.second]
    if not learned.any() or not tested.any():
        return method
    columns = (data.first[learned], data.second[learned], np.zeros(int(learned.sum()), np.int64), data.labels[learned])
    part = TrainingData(data.features, *columns)
    losses = {}
    for shrinkage in SHRINKAGES:
        for spread in COMMON_SPREADS:
            candidate = Uniform(common_spread=spread, shrinkage=shrinkage, iterations=30)
            rewards = candidate.fit(part, np.random.default_rng(0)).rewards(data.features)[:, 0]
            margins = rewards[data.first[tested]] - rewards[data.second[tested]]
            losses[spread, shrinkage] = log_loss(sigmoid(margins), data.labels[tested])
    spread, shrinkage = min(losses, key=losses.__getitem__)
    if isinstance(method, Uniform):
        return replace(method, common_spread=spread, shrinkage=shrinkage)
    return replace(method, common_spread=spread, shrinkage=shrinkage, spread=min(method.spread, spread / 2.0))


def _held_out(data: TrainingData, rng: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    groups = connected(data.first, data.second, data.rows)
    if len(np.unique(groups[data.first])) < FEWEST_GROUPS:
        groups = np.arange(data.rows)
    names = np.unique(groups[data.first])
    return np.isin(groups, rng.permutation(names)[: max(1, round(HELD_OUT_ROWS * len(names)))])
