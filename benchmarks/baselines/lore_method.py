"""LoRe as published, as a method under evaluation: simplex weights over learned reward directions.

Written from the paper (arXiv 2504.14439, eq. 10 and 11) and the defaults of its code: logits are differences times
directions times softmax weights over a hundred; directions and weights start standard normal and are fitted together
by full-batch Adam on the sum of people's mean losses; a new person's logits start standard normal, by Adam as well,
without a prior. Questions come at random. The sum over people is one segment sum instead of a loop over them.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional

from app.training.evaluation.problem import Problem, TestPerson
from benchmarks.baselines.data import Array, Fleet, FleetSession, rewards_of
from benchmarks.baselines.lore import ITERATIONS, RATE, TEMPERATURE

FEW_SHOT_RATE, FEW_SHOT_STEPS = 0.1, 500
DECAYS, EPSILON = (0.9, 0.999), 1e-8
DEFAULT_RANK = 6


def fit_lore_basis(problem: Problem, rank: int, rng: np.random.Generator) -> Float64[np.ndarray, "basis hidden"]:
    """Directions (K, H) over the temperature, or (K, rows) where features are the identity."""
    columns = (problem.training.first, problem.training.second, problem.training_people, problem.training.labels)
    first, second, person, labels = (torch.from_numpy(column) for column in columns)
    people = int(person.max()) + 1
    share = 1.0 / torch.bincount(person, minlength=people).clamp(min=1).float()[person]
    labels = labels.float()
    hidden = problem.rows if problem.features is None else problem.features.shape[1]
    heads, logits = (
        torch.tensor(rng.standard_normal(shape), dtype=torch.float32, requires_grad=True)
        for shape in ((hidden, rank), (people, rank))
    )
    rows = None
    if problem.features is not None:
        features = torch.from_numpy(np.asarray(problem.features, dtype=np.float32))
        rows = features[first] - features[second]
    optimizer = torch.optim.Adam([heads, logits], lr=RATE)
    for _ in range(ITERATIONS):
        rewards = heads[first] - heads[second] if rows is None else rows @ heads
        margins = (rewards * torch.softmax(logits, dim=1)[person]).sum(1) / TEMPERATURE
        loss = functional.binary_cross_entropy_with_logits(margins, labels, weight=share, reduction="sum")
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return np.asarray(heads.detach().double().numpy().T / TEMPERATURE)


def few_shot(rows: Array, labels: Array, weights: Array, starts: Array) -> Array:
    """Everyone's simplex weights by Adam on their logits, from the given starts."""
    shares = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    logits, first, second = starts.copy(), np.zeros_like(starts), np.zeros_like(starts)
    for step in range(1, FEW_SHOT_STEPS + 1 if rows.shape[1] else 1):
        simplex = softmax(logits)
        margins = np.clip((rows @ simplex[:, :, None])[:, :, 0], -500.0, 500.0)
        residuals = shares * (1.0 / (1.0 + np.exp(-margins)) - labels)
        slopes = (residuals[:, None, :] @ rows)[:, 0, :]
        gradient = simplex * (slopes - (simplex * slopes).sum(axis=1, keepdims=True))
        first = DECAYS[0] * first + (1.0 - DECAYS[0]) * gradient
        second = DECAYS[1] * second + (1.0 - DECAYS[1]) * gradient**2
        scale = np.sqrt(second / (1.0 - DECAYS[1] ** step)) + EPSILON
        logits = logits - FEW_SHOT_RATE * first / (1.0 - DECAYS[0] ** step) / scale
    return softmax(logits)


def softmax(logits: Array) -> Array:
    """Rows of weights that add up to one."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)


@dataclass
class LoreMethod:
    """LoRe's basis and few-shot fit."""

    name: str = "lore"
    fleet: Fleet = field(init=False)

    def fit(self, problem: Problem, rng: np.random.Generator) -> None:
        """Learn the basis from training people."""
        heads = fit_lore_basis(problem, problem.rank or DEFAULT_RANK, rng)
        self.fleet = Fleet(rewards_of(problem, heads), few_shot)

    def begin(self, person: TestPerson, rng: np.random.Generator) -> FleetSession:
        """Start a person of whom nothing is known: random weights."""
        return FleetSession(self.fleet, person.asked, rng)
