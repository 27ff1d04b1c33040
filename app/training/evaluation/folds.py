"""Sets some training people aside to calibrate on, as held-out people are evaluated. Knows nothing of methods.

With features, what the people set aside are predicted on lies in groups of texts (connected by comparisons) that
nobody of the fold was trained on. Without features, or with few groups, texts are shared by everyone, and each
person's own texts are parted instead.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from app.training.evaluation.problem import Problem
from app.training.methods.groups import connected

CALIBRATION_SHARE = 0.25
HELD_OUT_SHARE = 0.3
FEWEST_GROUPS = 12


@dataclass(frozen=True)
class Fold:
    """Training comparisons (N,) to learn from, and those to ask and to predict of the people set aside."""

    learned: Bool[np.ndarray, " comparisons"]
    asked: Bool[np.ndarray, " comparisons"]
    predicted: Bool[np.ndarray, " comparisons"]

    @classmethod
    def draw(cls, problem: Problem, rng: np.random.Generator) -> "Fold":
        """Set a quarter of the training people aside, and three tenths of the texts."""
        people, pairs = problem.training_people, problem.training
        count = int(people.max()) + 1
        aside = np.isin(people, rng.permutation(count)[: max(1, round(CALIBRATION_SHARE * count))])
        groups = connected(pairs.first, pairs.second, problem.rows)
        names = np.unique(groups[pairs.first])
        if problem.features is not None and len(names) >= FEWEST_GROUPS:
            held = rng.permutation(names)[: max(1, round(HELD_OUT_SHARE * len(names)))]
            outside = np.isin(groups[pairs.first], held)
            return cls(~aside & ~outside, aside & ~outside, aside & outside)
        # A person's texts are parted by a hash of both, the same for all of their comparisons.
        share = rng.random((problem.rows,))
        turn = rng.random(count)[people]
        first, second = ((share[rows] + turn) % 1.0 < np.sqrt(HELD_OUT_SHARE) for rows in (pairs.first, pairs.second))
        return cls(~aside, aside & ~first & ~second, aside & first & second)
