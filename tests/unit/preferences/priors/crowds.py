"""Crowds of simulated people of several kinds, and a small prior of every family."""

import numpy as np

from app.preferences.answers import Answers
from app.preferences.belief import Prior
from app.preferences.logistic import sigmoid
from app.preferences.priors.about import AboutPrior
from app.preferences.priors.atoms import AtomsPrior
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.priors.mixture import MixturePrior
from app.preferences.priors.simplex import SimplexPrior
from app.preferences.priors.words import BUCKETS
from tests.unit.preferences.worlds import random_answers, random_belief

Crowd = tuple[np.ndarray, np.ndarray, np.ndarray]


def answered(coefficients: np.ndarray, count: int, rng: np.random.Generator, *, noise_free: bool = False) -> Crowd:
    """``count`` random pairs for each person, answered by chance or without noise: differences, answers, people."""
    people = np.repeat(np.arange(len(coefficients)), count)
    rows = rng.standard_normal((len(people), coefficients.shape[1]))
    margins = np.einsum("nk,nk->n", rows, coefficients[people])
    first = margins > 0.0 if noise_free else rng.random(len(people)) < sigmoid(margins)
    return rows, first.astype(np.float64), people


def answers_of(crowd: Crowd, person: int) -> Answers:
    """One person's answers."""
    rows, labels, people = crowd
    return Answers.of(rows[people == person], labels[people == person])


def some_answers(rng: np.random.Generator, count: int, size: int = 3) -> Answers:
    """Random answers of all three kinds, with weights."""
    return Answers(*random_answers(rng, count, size), rng.choice([0.4, 1.0], count))


def every_family(rng: np.random.Generator) -> list[Prior]:
    """A small prior of each family about three coefficients, and atoms with and without halos."""
    shares = np.array([0.5, 0.3, 0.2])
    parts = [random_belief(rng, 3) for _ in shares]
    atoms, weights = rng.standard_normal((30, 3)), np.full(30, 1.0 / 30.0)
    slopes, rarity = rng.standard_normal((BUCKETS, 3)), np.ones(BUCKETS)
    return [
        GaussianPrior(parts[0]),
        AtomsPrior(atoms, weights, np.zeros((3, 3))),
        AtomsPrior(atoms, weights, 0.2 * parts[1].covariance()),
        MixturePrior(shares, np.array([one.mean for one in parts]), np.array([one.precision for one in parts])),
        SimplexPrior(random_belief(rng, 4), 3.0 * rng.standard_normal((4, 3))),
        AboutPrior(parts[0], parts[1], slopes, rarity),
    ]
