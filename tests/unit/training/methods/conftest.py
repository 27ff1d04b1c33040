"""A small world of texts with a few true basis rewards, and people with signed tastes over them."""

from dataclasses import dataclass

import numpy as np
import pytest

from app.training.methods import LearnedBasis, TrainingData

PEOPLE, EACH, ROWS, HIDDEN, RANK = 80, 40, 500, 16, 3


@dataclass(frozen=True)
class World:
    data: TrainingData
    margins: np.ndarray

    def correlation(self, basis: LearnedBasis) -> float:
        """Of fitted with true margins."""
        return float(np.corrcoef(self.fitted(basis), self.margins)[0, 1])

    def fitted(self, basis: LearnedBasis) -> np.ndarray:
        rewards = basis.rewards(self.data.features)
        differences = rewards[self.data.first] - rewards[self.data.second]
        return (differences * basis.coefficients[self.data.people]).sum(1)


def answers(margins, rng):
    return (rng.random(len(margins)) < 1.0 / (1.0 + np.exp(-margins))).astype(float)


def draw_world(seed=3, rows=ROWS, identity=False):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, HIDDEN))
    rewards = features @ rng.standard_normal((HIDDEN, RANK)) / HIDDEN**0.5
    tastes = np.array([1.5, 0.0, 0.0]) + 1.2 * rng.standard_normal((PEOPLE, RANK))
    people = np.repeat(np.arange(PEOPLE), EACH)
    first, second = rng.integers(0, rows, (2, PEOPLE * EACH))
    margins = ((rewards[first] - rewards[second]) * tastes[people]).sum(1)
    labels = answers(margins, rng)
    return World(TrainingData(None if identity else features, first, second, people, labels, rows=rows), margins)


@pytest.fixture(scope="session")
def world():
    return draw_world()


@pytest.fixture(scope="session")
def items():
    """Items of which nothing is known but answers."""
    return draw_world(rows=40, identity=True)
