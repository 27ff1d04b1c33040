"""PReF's basis as its code learns it: imputed singular vectors, then joint maximum likelihood with feature penalty.

Written from the published procedure (arXiv 2503.06358, Algorithm 1 and its released defaults): missing answers start at
one half and are imputed in rounds of truncated decomposition, uncentred; heads are first fitted to the pairs' singular
vectors, then heads and people's coefficients together, ties left out, with ``PENALTY`` times the mean norm of a pair's
basis rewards. In place of a language model's stochastic steps: least squares, then Adam on a linear head.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional

from app.training.evaluation.problem import Problem

ROUNDS = 10
TRUNCATION = 100
PENALTY = 0.02
STEPS = 500
RATE = 0.01
RIDGE = 1e-3
LARGEST_TABLE = 4_000_000
"""Cells of people times distinct pairs up to which missing answers are imputed; beyond, they stay one half."""


@dataclass(frozen=True)
class Table:
    """The known cells of the table of answers: ``labels`` (C,) at row ``pair`` and column ``person``.

    ``pairs`` (M, 2) are the distinct pairs, the smaller row first; ``people`` is how many there are.
    """

    pairs: np.ndarray
    people: int
    pair: np.ndarray
    person: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, problem: Problem) -> "Table":
        """One cell for each pair that a person answered, whichever side came first; the mean of repeated answers."""
        first, second, labels = problem.training.first, problem.training.second, problem.training.labels
        labels = np.where(first > second, 1.0 - labels, labels)
        sides = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
        pairs, number = np.unique(sides, axis=0, return_inverse=True)
        people = int(problem.training_people.max()) + 1
        cells, place = np.unique(number.reshape(-1) * people + problem.training_people, return_inverse=True)
        means = np.bincount(place, labels) / np.bincount(place)
        return cls(pairs, people, cells // people, cells % people, means)


def fit_pref_basis(problem: Problem, rank: int, rng: np.random.Generator) -> Float64[np.ndarray, "basis hidden"]:
    """Heads (K, H), or (K, rows) where features are the identity."""
    answers = Table.of(problem)
    users, targets = _singular_vectors(answers, rank, rng)
    heads = _least_squares(problem, answers.pairs, targets)
    return _joint(problem, heads, users)


def _singular_vectors(answers: Table, rank: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Users (P, K) and pair targets (M, K) from the table of answers, missing ones imputed."""
    shape = (len(answers.pairs), answers.people)
    if shape[0] * shape[1] > LARGEST_TABLE:
        return _sparse_singular_vectors(answers, rank, rng)
    table, known = np.full(shape, 0.5), np.zeros(shape, dtype=bool)
    table[answers.pair, answers.person] = answers.labels
    known[answers.pair, answers.person] = True
    for _ in range(ROUNDS):
        left, scale, right = np.linalg.svd(table, full_matrices=False)
        kept = slice(0, TRUNCATION)
        filled = np.clip((left[:, kept] * scale[kept]) @ right[kept], 0.0, 1.0)
        if known.all():
            break
        table = np.where(known, table, filled)
    root = np.sqrt(scale[:rank])
    return right[:rank].T * root, left[:, :rank] * root


def _sparse_singular_vectors(answers: Table, rank: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Leading singular vectors of a large table with one half in every missing cell, by subspace iteration."""
    off_half = torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([answers.pair, answers.person])),
        torch.from_numpy(answers.labels - 0.5),
        (len(answers.pairs), answers.people),
        check_invariants=True,
    ).coalesce()

    def apply(table: Tensor, block: Tensor) -> Tensor:
        product: Tensor = torch.sparse.mm(table, block)
        return product + 0.5 * block.sum(0)

    block = torch.from_numpy(rng.standard_normal((answers.people, rank + 8)))
    turned = off_half.t().coalesce()
    for _ in range(6):
        left = torch.linalg.qr(apply(off_half, block)).Q
        block = apply(turned, left)
    inner, scale, right = torch.linalg.svd(block.T, full_matrices=False)
    root = scale[:rank].sqrt()
    return (right[:rank].T * root).numpy(), ((left @ inner)[:, :rank] * root).numpy()


def _least_squares(problem: Problem, pairs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Heads whose differences come closest to the targets of all pairs."""
    if problem.features is None:
        sums, counts = np.zeros((problem.rows, targets.shape[1])), np.zeros(problem.rows)
        for side, sign in ((0, 1.0), (1, -1.0)):
            np.add.at(sums, pairs[:, side], sign * targets)
            np.add.at(counts, pairs[:, side], 1.0)
        return np.asarray((sums / np.maximum(counts, 1.0)[:, None]).T)
    rows = (problem.features[pairs[:, 0]] - problem.features[pairs[:, 1]]).astype(np.float64)
    ridge = RIDGE * np.square(rows).sum() / rows.shape[1] * np.eye(rows.shape[1])
    return np.asarray(np.linalg.solve(rows.T @ rows + ridge, rows.T @ targets).T)


def _joint(problem: Problem, heads: np.ndarray, users: np.ndarray) -> Float64[np.ndarray, "basis hidden"]:
    """Joint maximum likelihood of heads and users by full-batch Adam, on decided answers."""
    decided = problem.training.labels != 0.5
    columns = (problem.training.first, problem.training.second, problem.training_people, problem.training.labels)
    first, second, person, labels = (torch.from_numpy(column[decided]) for column in columns)
    labels = labels.float()
    weight, table = (torch.tensor(array, dtype=torch.float32, requires_grad=True) for array in (heads.T, users))
    rows = None
    if problem.features is not None:
        features = torch.from_numpy(np.asarray(problem.features, dtype=np.float32))
        rows = features[first] - features[second]
    optimizer = torch.optim.Adam([weight, table], lr=RATE)
    for _ in range(STEPS):
        rewards = weight[first] - weight[second] if rows is None else rows @ weight
        logits = (rewards * table[person]).sum(1)
        penalty = rewards.square().sum(1).clamp(min=1e-12).sqrt().mean()
        loss = functional.binary_cross_entropy_with_logits(logits, labels) + PENALTY * penalty
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return np.asarray(weight.detach().double().numpy().T)
