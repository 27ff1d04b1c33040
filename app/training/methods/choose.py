"""Chooses a method's settings, above all its rank, by how well held-out people are predicted.

Each candidate learns from some people. The others answer some of their comparisons, and the rest is predicted with the
coefficients integrated out under a Gaussian population: what a new person will meet. A new person also meets new texts,
and heads that memorise texts must not be rewarded for it: where texts fall into enough groups that no comparison
connects, what is predicted lies in groups that were not learned from. Everything is capped so that a candidate takes
seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from app.preferences.logistic import expected_sigmoid
from app.preferences.people import PeopleProblem
from app.preferences.population import SMALLEST_PROBABILITY, fit_population
from app.training.methods.data import BasisMethod, TrainingData
from app.training.methods.groups import connected
from app.training.methods.lore import Lore
from app.training.methods.personal import PersonalRewardModel
from app.training.methods.pref import Pref
from app.training.methods.variational import Variational

Ranked = Variational | Pref | Lore | PersonalRewardModel

RANKS = (1, 2, 3, 4, 6, 8, 10, 12, 16)
WIDER = (1.0, 3.0, 8.0)
"""Multiples of a method's spread that are tried."""
HELD_OUT, HELD_OUT_GROUPS = 0.25, 0.2
FEWEST_GROUPS = 12
DRAWS, FEW = 3, 100
"""How often people are held out, once only if neither held-out people nor groups of texts are fewer than ``FEW``."""
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
    trials = _draw_trials(data, rng)
    most = min(data.hidden, *(trial.train.person_count - 1 for trial in trials))
    tried = [replace(method, rank=rank) for rank in sorted(set(candidates)) if rank <= most]
    choice = _compare(trials, tried, rng)
    return choice.method.rank, {one.rank: loss for one, loss, _ in choice.losses}


def ranked(method: BasisMethod, rank: int) -> BasisMethod:
    """``method`` with K = ``rank``; a method of one reward keeps rank 1."""
    return replace(method, rank=rank) if isinstance(method, Ranked) else method


def choose_spread(data: TrainingData, method: BasisMethod, rng: np.random.Generator) -> BasisMethod:
    """``method``, or with wider rewards where that predicts held-out people better by more than a standard error.

    Noise-free answers want them wide. A method without a spread is returned as it is.
    """
    if not isinstance(method, Ranked):
        return method
    return choose_method(data, [replace(method, spread=times * method.spread) for times in WIDER], rng).method


def choose_method(data: TrainingData, candidates: Sequence[BasisMethod], rng: np.random.Generator) -> Choice:
    """The first candidate within one standard error of the best, the error being that of the paired difference.

    Args:
        data: Comparisons; at most ``MOST_PEOPLE`` people of them are used, a quarter held out.
        candidates: Methods, the simplest first.
        rng: Draws people, texts and answers; every candidate meets the same ones.

    Raises:
        ValueError: If there is no candidate or too few people to hold some out.
    """
    return _compare(_draw_trials(data, rng), candidates, rng)


@dataclass(frozen=True)
class _Trial:
    """What is learned from, and the comparisons of held-out people: ``asked`` (N,) are given, the others predicted."""

    train: TrainingData
    held: TrainingData
    asked: Bool[np.ndarray, " comparisons"]


def _draw_trials(data: TrainingData, rng: np.random.Generator) -> list[_Trial]:
    """One trial, or ``DRAWS`` where people or groups of texts are few and one would be chance."""
    if data.person_count < 4:
        raise ValueError(f"{data.person_count} people are too few to hold some out; at least 4 are needed.")
    groups = np.zeros(len(data), dtype=np.int64)  # without features no text can be new
    if data.features is not None:
        groups = connected(data.first, data.second, data.rows)[data.first]
    names = np.unique(groups)
    few = HELD_OUT * min(data.person_count, MOST_PEOPLE) < FEW or FEWEST_GROUPS <= len(names) < FEW
    trials = []
    for _ in range(DRAWS if few else 1):
        new = np.zeros(len(data), dtype=bool)
        if len(names) >= FEWEST_GROUPS:
            new = np.isin(groups, rng.permutation(names)[: round(HELD_OUT_GROUPS * len(names))])
        trials.append(_draw_trial(data, new, rng))
    return trials


def _draw_trial(data: TrainingData, new: Bool[np.ndarray, " comparisons"], rng: np.random.Generator) -> _Trial:
    """Hold out a quarter of the people; predicted are their ``new`` comparisons, or half of all where none is new."""
    order = rng.permutation(data.person_count)[:MOST_PEOPLE]
    part = np.zeros(data.person_count, dtype=np.int64)
    part[order] = 1
    part[order[: max(1, round(HELD_OUT * len(order)))]] = 2
    learned, held = part[data.people] == 1, part[data.people] == 2
    asked = rng.random(int(held.sum())) < 0.5
    if (learned & ~new).any() and new[held].any():
        kept = np.zeros_like(held)
        kept[held] = new[held] | asked
        return _Trial(data.where(learned & ~new), data.where(kept), ~new[kept])
    asked[rng.integers(len(asked))] = False  # something is always predicted
    return _Trial(data.where(learned), data.where(held), asked)


def _compare(trials: Sequence[_Trial], candidates: Sequence[BasisMethod], rng: np.random.Generator) -> Choice:
    if not candidates:
        raise ValueError("There are no candidates; at least 1 is needed.")
    seed = int(rng.integers(2**31))
    losses = np.array(
        [
            np.concatenate([_losses(trial, method, np.random.default_rng(seed)) for trial in trials])
            for method in candidates
        ]
    )
    means = losses.mean(axis=1)
    gaps = losses - losses[means.argmin()]
    root = losses.shape[1] ** 0.5
    chosen = int(np.flatnonzero(gaps.mean(axis=1) <= gaps.std(axis=1) / root)[0])
    errors = losses.std(axis=1) / root
    return Choice(candidates[chosen], list(zip(candidates, means.tolist(), errors.tolist(), strict=True)))


def _losses(trial: _Trial, method: BasisMethod, rng: np.random.Generator) -> Float64[np.ndarray, " people"]:
    """Log-loss of each held-out person's comparisons that were not asked, given those that were."""
    train, held, asked = trial.train, trial.held, trial.asked
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
