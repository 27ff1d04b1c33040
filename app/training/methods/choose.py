"""Chooses a method's settings, above all its rank, by how well held-out people are predicted.

Each candidate learns from some people. The others answer half of their comparisons, and the other half is predicted
with the coefficients integrated out under a Gaussian population: what a new person will meet. Everything is capped so
that a candidate takes seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from app.preferences.logistic import expected_sigmoid
from app.preferences.people import PeopleProblem
from app.preferences.population import SMALLEST_PROBABILITY, fit_population
from app.training.methods.data import BasisMethod, TrainingData
from app.training.methods.lore import Lore
from app.training.methods.personal import PersonalRewardModel
from app.training.methods.pref import Pref
from app.training.methods.variational import Variational

Ranked = Variational | Pref | Lore | PersonalRewardModel

RANKS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
SPREADS = (0.5, 1.5, 4.0)
HELD_OUT = 0.25
MOST_PEOPLE = 800
MOST_FOR_POPULATION = 200
POPULATION_ROUNDS = 30


@dataclass(frozen=True)
class Choice:
    """The chosen ``method``, and log-loss with its standard error over people, in nats, of every candidate."""

    method: BasisMethod
    losses: list[tuple[BasisMethod, float, float]]


def choose_rank(
    data: TrainingData, method: BasisMethod, candidates: Sequence[int], rng: np.random.Generator
) -> tuple[int, dict[int, float]]:
    """The smallest rank within one standard error of the best, and each candidate's held-out log-loss in nats.

    Ranks that the data cannot carry are left out; a method of one reward keeps rank 1.
    """
    if not isinstance(method, Ranked):
        return 1, {}
    most = min(data.hidden, round((1.0 - HELD_OUT) * min(data.person_count, MOST_PEOPLE)) - 1)
    tried = [replace(method, rank=rank) for rank in sorted(set(candidates)) if rank <= most]
    choice = choose_method(data, tried, rng)
    return choice.method.rank, {one.rank: loss for one, loss, _ in choice.losses}


def ranked(method: BasisMethod, rank: int) -> BasisMethod:
    """``method`` with K = ``rank``; a method of one reward keeps rank 1."""
    return replace(method, rank=rank) if isinstance(method, Ranked) else method


def choose_spread(data: TrainingData, method: BasisMethod, rng: np.random.Generator) -> BasisMethod:
    """``method`` with the spread of rewards that predicts held-out people best: noise-free answers want it wide.

    A method without a spread is returned as it is.
    """
    if not isinstance(method, Ranked):
        return method
    return choose_method(data, [replace(method, spread=spread) for spread in SPREADS], rng).method


def choose_method(data: TrainingData, candidates: Sequence[BasisMethod], rng: np.random.Generator) -> Choice:
    """The first candidate within one standard error of the best, the error being that of the paired difference.

    Args:
        data: Comparisons; at most ``MOST_PEOPLE`` people of them are used, a quarter held out.
        candidates: Methods, the simplest first.
        rng: Draws people and halves; every candidate meets the same ones.

    Raises:
        ValueError: If there is no candidate or too few people to hold some out.
    """
    if not candidates or data.person_count < 4:
        raise ValueError(f"{len(candidates)} candidates and {data.person_count} people; at least 1 and 4 are needed.")
    order = rng.permutation(data.person_count)[:MOST_PEOPLE]
    part = np.zeros(data.person_count, dtype=np.int64)
    part[order] = 1
    part[order[: max(1, round(HELD_OUT * len(order)))]] = 2
    train, held = data.only(part == 1), data.only(part == 2)
    asked = rng.random(len(held)) < 0.5
    asked[rng.integers(len(held))] = False  # something is always predicted
    seed = int(rng.integers(2**31))
    losses = np.array([_losses(train, held, asked, one, np.random.default_rng(seed)) for one in candidates])
    means = losses.mean(axis=1)
    best = int(means.argmin())
    gaps = losses - losses[best]
    errors = gaps.std(axis=1) / max(1, losses.shape[1]) ** 0.5
    chosen = int(np.flatnonzero(gaps.mean(axis=1) <= errors)[0])
    spread = losses.std(axis=1) / max(1, losses.shape[1]) ** 0.5
    return Choice(candidates[chosen], list(zip(candidates, means.tolist(), spread.tolist(), strict=True)))


def _losses(
    train: TrainingData, held: TrainingData, asked: np.ndarray, method: BasisMethod, rng: np.random.Generator
) -> Float64[np.ndarray, " people"]:
    """Log-loss of each held-out person's comparisons that were not ``asked``, given those that were."""
    rewards = method.fit(train, rng).rewards(train.features)
    differences = rewards[train.first] - rewards[train.second]
    spread = np.maximum(differences.std(axis=0), 1e-9)
    some = train.people < MOST_FOR_POPULATION
    prior = fit_population(
        differences[some] / spread, train.labels[some], train.people[some], iterations=POPULATION_ROUNDS
    )
    rows = (rewards[held.first] - rewards[held.second]) / spread
    means = np.tile(prior.mean, (held.person_count, 1))
    covariances = np.tile(np.linalg.inv(prior.precision), (held.person_count, 1, 1))
    if asked.any():
        fit = PeopleProblem(rows[asked], held.labels[asked], held.people[asked]).fit(prior)
        means[fit.ids], covariances[fit.ids] = fit.means, fit.covariances()
    rows, labels, people = rows[~asked], held.labels[~asked], held.people[~asked]
    variances = np.einsum("nk,nkl,nl->n", rows, covariances[people], rows, optimize=True)
    probabilities = expected_sigmoid(np.einsum("nk,nk->n", rows, means[people]), np.maximum(variances, 0.0))
    probabilities = np.clip(probabilities, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    losses = -(labels * np.log(probabilities) + (1.0 - labels) * np.log1p(-probabilities))
    counts = np.bincount(people, minlength=held.person_count)
    totals = np.bincount(people, losses, minlength=held.person_count)
    return np.asarray(totals[counts > 0] / counts[counts > 0], dtype=np.float64)
