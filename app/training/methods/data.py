"""What a method of learning basis rewards is given, and what it gives back. Knows none of the methods."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, Float64, Int64

from app.preferences.gaussian import Posterior


@dataclass(frozen=True)
class TrainingData:
    """Comparisons over rows with features (rows, hidden); everything else is (N,), one entry a comparison.

    ``people`` runs from 0 to P-1; ``labels`` is 1.0 where first was preferred, 0.5 for a tie, else 0.0. ``features``
    None stands for the identity: every one of ``rows`` rows is an item of its own. ``about_features`` (P, F) describe
    what people wrote of themselves.
    """

    features: Float[np.ndarray, "rows hidden"] | None
    first: Int64[np.ndarray, " comparisons"]
    second: Int64[np.ndarray, " comparisons"]
    people: Int64[np.ndarray, " comparisons"]
    labels: Float64[np.ndarray, " comparisons"]
    about_features: Float[np.ndarray, "people about"] | None = None
    rows: int = 0

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.first, self.second, self.people, self.labels)}
        if len(lengths) != 1 or 0 in lengths:
            raise ValueError(f"columns have lengths {sorted(lengths)}; pass one entry of each a comparison.")
        if self.features is not None:
            object.__setattr__(self, "rows", len(self.features))
        used = int(max(self.first.max(), self.second.max())) + 1
        if used > self.rows:
            raise ValueError(f"comparisons use {used} rows but there are {self.rows}; pass all features, or ``rows``.")
        if self.about_features is not None and len(self.about_features) != self.person_count:
            raise ValueError(f"{len(self.about_features)} about rows for {self.person_count} people; pass one each.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def person_count(self) -> int:
        """P, the number of people."""
        return int(self.people.max()) + 1

    @property
    def hidden(self) -> int:
        """Length of a feature vector; the number of rows where features are the identity."""
        return self.rows if self.features is None else int(self.features.shape[1])

    def only(self, members: np.ndarray) -> "TrainingData":
        """The comparisons of the people marked in ``members`` (P,), who are numbered anew; all rows stay."""
        return self.where(members[self.people])

    def where(self, kept: np.ndarray) -> "TrainingData":
        """The comparisons marked in ``kept`` (N,), whose people are numbered anew; all rows stay."""
        ids, people = np.unique(self.people[kept], return_inverse=True)
        about = None if self.about_features is None else self.about_features[ids]
        columns = (self.first[kept], self.second[kept], people.astype(np.int64), self.labels[kept])
        return TrainingData(self.features, *columns, about, self.rows)


@dataclass(frozen=True)
class LearnedBasis:
    """``heads`` (K, hidden) on raw features and training people's ``coefficients`` (P, K), in log-odds.

    ``vertices`` (M, K) are the corners between which a method keeps coefficients, None where it keeps them nowhere.
    ``loss`` is the mean training loss of a comparison in nats. ``prior`` is the belief about people under which the
    heads were learned, None where a method has none.
    """

    heads: Float64[np.ndarray, "basis hidden"]
    coefficients: Float64[np.ndarray, "people basis"]
    loss: float
    vertices: Float64[np.ndarray, "vertices basis"] | None = None
    prior: Posterior | None = None

    def rewards(self, features: Float[np.ndarray, "rows hidden"] | None) -> Float64[np.ndarray, "rows basis"]:
        """Basis rewards of rows with these features; with None, of the items of an identity."""
        rewards: Float64[np.ndarray, "rows basis"] = (
            self.heads.T.copy() if features is None else features @ self.heads.T
        )
        return rewards


@dataclass(frozen=True)
class Run:
    """How a fit reports and survives: ``progress(iteration, loss)``, and a ``checkpoint`` saved ``every`` iterations.

    A fit that finds its checkpoint goes on from there and ends with the same result. ``fit`` is a digest of what is
    fitted: a checkpoint with another one is refused.
    """

    checkpoint: Path | None = None
    every: int = 10
    progress: Callable[[int, float], None] | None = None
    fit: str = ""


QUIET = Run()


def check_rank(rank: int, data: TrainingData) -> None:
    """Raise ``ValueError`` if ``data`` cannot carry ``rank`` basis rewards."""
    most = min(data.hidden, data.person_count)
    if not 1 <= rank <= most:
        raise ValueError(
            f"rank is {rank}; pass 1 to {most}, the smaller of {data.hidden} features and {data.person_count} people."
        )


class BasisMethod(Protocol):
    """A way of learning K basis rewards from many people's comparisons."""

    @property
    def name(self) -> str:
        """As the command line and the card say it; settings are the fields of a dataclass."""

    @property
    def rank(self) -> int:
        """K, the number of basis rewards."""

    def fit(self, data: TrainingData, rng: np.random.Generator, run: Run = QUIET) -> LearnedBasis:
        """Learn from ``data``; the same ``rng`` gives the same basis on the same device."""
