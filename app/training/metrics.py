"""Scores of predicted choices, and intervals over people. Numpy only."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Interval:
    """A mean over people with its 95 % interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: Float64[np.ndarray, " people"], rng: np.random.Generator, draws: int = 2000) -> Interval:
    """Bootstrap over people: resample the people, not their answers."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"))
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def accuracy(probability: Float64[np.ndarray, " n"], label: Float64[np.ndarray, " n"]) -> float:
    """Share of decided comparisons predicted right; a prediction of exactly one half counts half."""
    decided = label != 0.5
    right = np.where(probability[decided] == 0.5, 0.5, (probability[decided] > 0.5) == (label[decided] > 0.5))
    return float(right.mean()) if decided.any() else float("nan")


def auc(probability: Float64[np.ndarray, " n"], label: Float64[np.ndarray, " n"]) -> float:
    """Area under the ROC curve over decided comparisons, by ranks with ties shared."""
    decided = label != 0.5
    scores, positive = probability[decided], label[decided] > 0.5
    if positive.all() or not positive.any():
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(above / (positive.sum() * (~positive).sum()))


def calibration_error(
    probability: Float64[np.ndarray, " n"], label: Float64[np.ndarray, " n"], bins: int = 10
) -> float:
    """Expected calibration error of the predicted side over ``bins`` bins of equal width."""
    confident = np.maximum(probability, 1 - probability)
    right = np.where(probability >= 0.5, label, 1 - label)
    which = np.minimum(((confident - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = [
        abs(right[which == b].mean() - confident[which == b].mean()) * (which == b).mean() for b in np.unique(which)
    ]
    return float(sum(gaps))
