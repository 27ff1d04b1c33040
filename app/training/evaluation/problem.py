"""One draw of a data set for evaluation: people to learn from, and people to ask and then to predict.

Rows are distinct texts with one feature vector each; a pair is two rows. Nothing here knows where texts or people
come from, nor which method will be tried.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64


@dataclass(frozen=True)
class Pairs:
    """Compared rows: ``first`` and ``second`` (N,), and ``labels`` (N,): 1.0 first preferred, 0.5 tie, 0.0 second."""

    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]
    labels: Float64[np.ndarray, " pairs"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class TestPerson:
    """A held-out person: pairs that may be asked, and pairs over other texts that are predicted."""

    name: str
    asked: Pairs
    predicted: Pairs
    about: str | None = None


@dataclass(frozen=True)
class Source:
    """What holds of the texts and comparisons before sides are drawn at random.

    ``first_share`` is the share of decided comparisons whose first side was preferred; ``sides_alike`` tells whether a
    text gets the same features, whichever side it is read as.
    """

    first_share: float
    sides_alike: bool


@dataclass(frozen=True)
class Problem:
    """Features (rows, hidden) of all texts; training pairs with the person (N,) who answered each; held-out people.

    ``features`` None stands for the identity: every row is an item of its own, of which nothing is known but answers.
    ``training_people`` runs from 0 to P-1. ``about`` (P,) is what training people wrote of themselves, if anything.
    ``counts`` are the numbers of answers after which held-out people are predicted. Unless ``active``, held-out
    people's questions come in the order of ``asked``: nobody may choose them. ``left_out`` are people who were to be
    held out and have too few answers; ``source`` is known of recorded comparisons of texts alone.
    """

    name: str
    features: Float[np.ndarray, "rows hidden"] | None
    rows: int
    training: Pairs
    training_people: Int64[np.ndarray, " pairs"]
    people: tuple[TestPerson, ...]
    rank: int | None
    counts: tuple[int, ...] = (0, 1, 3, 5, 10, 20)
    about: tuple[str | None, ...] | None = None
    active: bool = True
    left_out: tuple[str, ...] = ()
    source: Source | None = None
