"""From predictions to figures with intervals over people. Knows nothing of methods or gates.

People are resampled, each with all seeds that held them out, and with the same draws for every figure of one
evaluation: the interval of a difference between two methods is therefore paired.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.population import log_loss
from app.training.evaluation.run import Record
from app.training.metrics import Interval, accuracy, auc

DRAWS = 2000
BINS = 10
Values = Float64[np.ndarray, " records"]


def _decided_log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return log_loss(probabilities, labels) if len(labels) else float("nan")


METRICS: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auc": auc,
    "accuracy": accuracy,
    "log_loss": _decided_log_loss,
}


@dataclass(frozen=True)
class Bootstrap:
    """How often each record was drawn (draws, records): as often as its person."""

    weights: Float64[np.ndarray, "draws records"]

    @classmethod
    def of(cls, names: Sequence[str], rng: np.random.Generator, draws: int = DRAWS) -> "Bootstrap":
        """Resample distinct ``names`` with replacement; all records of one name come and go together."""
        distinct, person = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
        drawn = rng.multinomial(len(distinct), np.full(len(distinct), 1.0 / len(distinct)), draws)
        return cls(drawn[:, person].astype(np.float64))

    def mean(self, values: Values) -> Interval:
        """Mean over the records that have a value, with its 95 % interval."""
        known = np.isfinite(values)
        if not known.any():
            return Interval(float("nan"), float("nan"), float("nan"))
        counts = self.weights @ known.astype(np.float64)
        means = (self.weights @ np.where(known, values, 0.0))[counts > 0] / counts[counts > 0]
        low, high = np.quantile(means, [0.025, 0.975])
        return Interval(float(values[known].mean()), float(low), float(high))

    def calibration_error(self, bins: Float64[np.ndarray, "records bins 3"]) -> Interval:
        """Expected calibration error over pooled choices, from each record's sums in each bin (``binned``).

        Resampled choices stray further from what was claimed than the choices themselves: the interval is moved back by
        the mean of what that adds.
        """

        def error(sums: np.ndarray) -> np.ndarray:
            gaps = np.abs(sums[..., 1] - sums[..., 2]).sum(-1)
            return np.asarray(gaps / np.maximum(sums[..., 0].sum(-1), 1.0))

        if not bins[..., 0].any():
            return Interval(float("nan"), float("nan"), float("nan"))
        drawn = error((self.weights @ bins.reshape(len(bins), -1)).reshape(len(self.weights), -1, 3))
        found = float(error(bins.sum(0)))
        low, high = np.maximum(np.quantile(drawn, [0.025, 0.975]) - (drawn.mean() - found), 0.0)
        return Interval(found, float(low), float(high))


def per_person(records: Sequence[Record], count: int, metric: str) -> Values:
    """The metric of each person after ``count`` answers; NaN where they gave fewer or it is not defined."""
    score = METRICS[metric]
    found = [
        score(one.probabilities[count], one.labels) if count in one.probabilities and len(one.labels) else np.nan
        for one in records
    ]
    return np.array(found, dtype=np.float64)


def binned(records: Sequence[Record], count: int) -> Float64[np.ndarray, "records bins 3"]:
    """Choices, summed confidence and summed correctness of each person in bins of the predicted side's probability."""
    sums = np.zeros((len(records), BINS, 3))
    for row, one in zip(sums, records, strict=True):
        if count in one.probabilities:
            probability = one.probabilities[count]
            confident = np.maximum(probability, 1.0 - probability)
            right = np.where(probability >= 0.5, one.labels, 1.0 - one.labels)
            which = np.minimum(((confident - 0.5) * 2.0 * BINS).astype(int), BINS - 1)
            for column, values in enumerate((np.ones(len(which)), confident, right)):
                np.add.at(row[:, column], which, values)
    return sums


@dataclass(frozen=True)
class CertaintyBin:
    """People and stages told a certainty in one tenth: mean told, mean realised rescaled accuracy, and how many."""

    low: float
    told: float
    realised: float
    stages: int


def certainty_bins(records: Sequence[Record]) -> list[CertaintyBin]:
    """What people were told against what came true, over all people and numbers of answers."""
    stages = [
        (told, float((np.sign(2.0 * one.probabilities[count] - 1.0) * (2.0 * one.labels - 1.0)).mean()))
        for one in records
        for count, told in one.told.items()
    ]
    told, realised = np.array(stages, dtype=np.float64).reshape(-1, 2).T
    which = np.minimum((told * BINS).astype(int), BINS - 1)
    return [
        CertaintyBin(
            b / BINS, float(told[which == b].mean()), float(realised[which == b].mean()), int((which == b).sum())
        )
        for b in np.unique(which)
    ]


def excess_certainty(records: Sequence[Record], low: float, high: float) -> Values:
    """What each person was told beyond what came true, over the numbers of answers at which it was in [low, high).

    NaN for people who were never told a certainty in that range.
    """
    found = []
    for one in records:
        gaps = [
            told - float((np.sign(2.0 * one.probabilities[count] - 1.0) * (2.0 * one.labels - 1.0)).mean())
            for count, told in one.told.items()
            if low <= told < high
        ]
        found.append(float(np.mean(gaps)) if gaps else float("nan"))
    return np.array(found, dtype=np.float64)
