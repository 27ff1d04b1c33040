"""Sets some training people aside to calibrate on, as held-out people are evaluated. Knows nothing of methods.

With features, what the people set aside are predicted on lies in groups of texts (connected by comparisons) that
nobody of the fold was trained on. Without features, or with few groups, texts are shared by everyone, and each
person's own texts are parted instead.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool

from app.training.evaluation.problem import Problem
from app.training.methods.groups import connected

CALIBRATION_SHARE = 0.2
MOST_ASIDE = 300
"""A fifth of the people are set aside, but no more than it takes to know what suits them."""
HELD_OUT_SHARE = 0.15
HELD_OUT_OWN_SHARE = 0.4
"""Of texts, where they are learned from by nobody; of a person's own, where everyone's are the same."""
FEWEST_GROUPS = 12
FOLDS = 6
FEWEST_PEOPLE, FEWEST_HELD_OUT = 200, 30
"""People set aside, and groups of texts held out, by the folds together; where one fold holds as many, it is enough."""


@dataclass(frozen=True)
class Fold:
    """Training comparisons (N,) to learn from, and those to ask and to predict of the people set aside."""

    learned: Bool[np.ndarray, " comparisons"]
    asked: Bool[np.ndarray, " comparisons"]
    predicted: Bool[np.ndarray, " comparisons"]

    @classmethod
    def draw(cls, problem: Problem, rng: np.random.Generator, most: int | None = None) -> "Fold":
        """Set a fifth of the training people aside, and a part of the texts; learn from at most ``most`` others."""
        people, pairs = problem.training_people, problem.training
        count = int(people.max()) + 1
        order = rng.permutation(count)
        size = min(MOST_ASIDE, max(1, round(CALIBRATION_SHARE * count)))
        aside, others = np.isin(people, order[:size]), np.isin(people, order[size:][:most])
        groups = connected(pairs.first, pairs.second, problem.rows)
        names = np.unique(groups[pairs.first])
        if problem.features is not None and len(names) >= FEWEST_GROUPS:
            held = rng.permutation(names)[: max(1, round(HELD_OUT_SHARE * len(names)))]
            outside = np.isin(groups[pairs.first], held)
            return cls(others & ~outside, aside & ~outside, aside & outside)
        # A person's texts are parted by a hash of both, the same for all of their comparisons.
        share = rng.random((problem.rows,))
        turn = rng.random(count)[people]
        first, second = ((share[rows] + turn) % 1.0 < HELD_OUT_OWN_SHARE for rows in (pairs.first, pairs.second))
        return cls(others, aside & ~first & ~second, aside & first & second)


def draw_folds(problem: Problem, rng: np.random.Generator, most: int | None = None) -> list[Fold]:
    """As many folds as it takes to set enough people and texts aside, at most ``FOLDS``; people may be in several."""
    wanted = FEWEST_PEOPLE / (CALIBRATION_SHARE * (int(problem.training_people.max()) + 1))
    if problem.features is not None:
        groups = connected(problem.training.first, problem.training.second, problem.rows)
        wanted = max(wanted, FEWEST_HELD_OUT / (HELD_OUT_SHARE * len(np.unique(groups[problem.training.first]))))
    return [Fold.draw(problem, rng, most) for _ in range(min(FOLDS, ceil(wanted)))]
