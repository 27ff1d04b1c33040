"""What the baselines share: differences of features, and sessions that are fitted together.

A published procedure takes thousands of small steps for one person. All people of one number of answers are therefore
stepped side by side in one array, each with answers and random numbers of their own; the result is that of one by one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64

from app.preferences.logistic import sigmoid
from app.training.evaluation.method import claimed
from app.training.evaluation.problem import Pairs, Problem

Array = Float64[np.ndarray, "..."]
Together = Callable[[Array, Array, Array, Array], Array]
"""Differences (P, N, K), labels (P, N), weights (P, N; zero for padding) and starts (P, K) to coefficients (P, K)."""


def rewards_of(problem: Problem, heads: Float64[np.ndarray, "basis hidden"]) -> Float64[np.ndarray, "rows basis"]:
    """Rewards of all rows; with identity features a head is the items' own rewards."""
    rewards = heads.T if problem.features is None else problem.features @ heads.T
    return np.asarray(rewards, dtype=np.float64)


@dataclass
class Fleet:
    """Sessions of one method and one evaluation, fitted together whenever one of them needs a current estimate."""

    rewards: Float64[np.ndarray, "rows basis"]
    fit: Together
    sessions: list["FleetSession"] = field(default_factory=list)

    def refresh(self) -> None:
        """Fit everyone whose answers have changed since their last fit, from a new random start."""
        stale = [one for one in self.sessions if one.stale]
        longest = max(len(one.labels) for one in stale)
        size = self.rewards.shape[1]
        rows, labels, weights = (np.zeros((len(stale), longest, *rest)) for rest in ((size,), (), ()))
        for number, one in enumerate(stale):
            count = len(one.labels)
            rows[number, :count], labels[number, :count], weights[number, :count] = one.asked, one.labels, 1.0
        starts = np.array([one.rng.standard_normal(size) for one in stale])
        for one, coefficients in zip(stale, self.fit(rows, labels, weights, starts), strict=True):
            one.coefficients, one.stale = coefficients, False


class FleetSession:
    """One person of a fleet: answers so far, and the estimate from them; questions at random."""

    def __init__(self, fleet: Fleet, pairs: Pairs, rng: np.random.Generator) -> None:
        self.fleet, self.rng = fleet, rng
        self.rows = fleet.rewards[pairs.first] - fleet.rewards[pairs.second]
        self.indices: list[int] = []
        self.labels: list[float] = []
        self.stale = True
        self.coefficients = np.zeros(fleet.rewards.shape[1])
        fleet.sessions.append(self)

    @property
    def asked(self) -> Float64[np.ndarray, "answers basis"]:
        """Differences of the answered pairs."""
        return np.asarray(self.rows[self.indices], dtype=np.float64)

    def current(self) -> Float64[np.ndarray, " basis"]:
        """The estimate from all answers so far; a random start if there are none."""
        if self.stale:
            self.fleet.refresh()
        return self.coefficients

    def choose(self, allowed: Bool[np.ndarray, " pairs"]) -> int:
        """Any allowed pair."""
        return int(self.rng.choice(np.flatnonzero(allowed)))

    def observe(self, index: int, label: float) -> None:
        """Note an answer; the estimate waits until it is needed."""
        self.indices.append(index)
        self.labels.append(label)
        self.stale = True

    def predict(self, pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
        """Probabilities at the point estimate."""
        rewards = self.fleet.rewards
        return sigmoid((rewards[pairs.first] - rewards[pairs.second]) @ self.current())

    def told(self, pairs: Pairs) -> float:
        """What the predictions claim: nothing is corrected."""
        return claimed(self.predict(pairs))
