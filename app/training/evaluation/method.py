"""What a method must do to be evaluated: learn from training people, then ask and predict a new person.

attune's own methods and the baselines under ``benchmarks/baselines`` implement the same two Protocols, and so see the
same people, the same pairs and the same answers.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64

from app.training.evaluation.problem import Pairs, Problem, TestPerson


def claimed(probabilities: Float64[np.ndarray, " pairs"]) -> float:
    """Certainty that predictions claim, if nothing is corrected: the mean of |2P - 1|."""
    return float(np.abs(2.0 * probabilities - 1.0).mean())


class Session(Protocol):
    """One held-out person being asked. Never sees the labels of what it has not asked."""

    def choose(self, allowed: Bool[np.ndarray, " pairs"]) -> int:
        """Index among the person's ``asked`` pairs of the next question; ``allowed`` has at least one entry."""

    def observe(self, index: int, label: float) -> None:
        """The answer to a question: 1.0, 0.5 or 0.0."""

    def predict(self, pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
        """Probability that the person prefers the first text of each pair; ``labels`` of ``pairs`` must not be read."""

    def told(self, pairs: Pairs) -> float:
        """Certainty that the person would be told, between 0 (a coin flip) and 1, for at least one of such pairs."""


class Method(Protocol):
    """A way of learning a basis and a population, and of knowing a person."""

    @property
    def name(self) -> str:
        """As tables show it."""

    def fit(self, problem: Problem, rng: np.random.Generator) -> None:
        """Learn from the training pairs; the problem's held-out people must not be looked at."""

    def begin(self, person: TestPerson, rng: np.random.Generator) -> Session:
        """Start with a held-out person, of whom only ``asked`` pairs and ``about`` may be used; labels are NaN.

        All people of one number of answers choose before any of them observes, so that a method may fit them together.
        """
