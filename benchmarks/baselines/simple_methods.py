"""The two ends without a basis: one reward for everyone, and one model for each person alone."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64

from app.preferences.gaussian import Posterior
from app.preferences.logistic import sigmoid
from app.preferences.posterior import fit_posterior
from app.training.evaluation.method import claimed
from app.training.evaluation.problem import Pairs, Problem, TestPerson
from app.training.methods.common_spread import choose_common_spread
from app.training.methods.data import TrainingData
from app.training.methods.uniform import Uniform


class FixedSession:
    """Everyone's reward, whatever is answered; questions at random."""

    def __init__(self, rewards: Float64[np.ndarray, " rows"], rng: np.random.Generator) -> None:
        self._rewards, self._rng = rewards, rng

    def choose(self, allowed: Bool[np.ndarray, " pairs"]) -> int:
        """Any allowed pair."""
        return int(self._rng.choice(np.flatnonzero(allowed)))

    def observe(self, index: int, label: float) -> None:
        """Learn nothing from an answer."""

    def predict(self, pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
        """Probabilities under the population's reward."""
        return sigmoid(self._rewards[pairs.first] - self._rewards[pairs.second])

    def told(self, pairs: Pairs) -> float:
        """What the predictions claim: nothing is corrected."""
        return claimed(self.predict(pairs))


@dataclass
class UniformMethod:
    """Bradley-Terry: one reward fitted on everyone's answers, the same for all."""

    name: str = "uniform"
    rewards: Float64[np.ndarray, " rows"] = field(init=False)

    def fit(self, problem: Problem, rng: np.random.Generator) -> None:
        """Fit one reward as if one person had given all the answers, its penalty chosen by held-out texts."""
        pairs = problem.training
        alike = np.zeros(len(pairs), dtype=np.int64)
        data = TrainingData(problem.features, pairs.first, pairs.second, alike, pairs.labels, rows=problem.rows)
        basis = choose_common_spread(data, Uniform(), rng).fit(data, rng)
        self.rewards = np.asarray(basis.rewards(problem.features)[:, 0], dtype=np.float64)

    def begin(self, person: TestPerson, rng: np.random.Generator) -> FixedSession:  # noqa: ARG002 - all are alike
        """Start anybody."""
        return FixedSession(self.rewards, rng)


class OwnSession:
    """A ridge logistic model of one person's answers on the features themselves; questions at random."""

    def __init__(self, features: Float64[np.ndarray, "rows hidden"], pairs: Pairs, rng: np.random.Generator) -> None:
        self._features, self._pairs, self._rng = features, pairs, rng
        self._asked: list[int] = []
        self._labels: list[float] = []
        self._weights = np.zeros(features.shape[1])

    def choose(self, allowed: Bool[np.ndarray, " pairs"]) -> int:
        """Any allowed pair."""
        return int(self._rng.choice(np.flatnonzero(allowed)))

    def observe(self, index: int, label: float) -> None:
        """Fit again, in the span of the asked differences: the ridge estimate never leaves it."""
        self._asked.append(index)
        self._labels.append(label)
        rows = self._differences(self._pairs.first[self._asked], self._pairs.second[self._asked])
        span = np.linalg.qr(rows.T)[0]
        prior = Posterior(np.zeros(span.shape[1]), np.eye(span.shape[1]))
        posterior, _ = fit_posterior(prior, rows @ span, np.array(self._labels))
        self._weights = span @ posterior.mean

    def predict(self, pairs: Pairs) -> Float64[np.ndarray, " pairs"]:
        """Probabilities at the point estimate."""
        return sigmoid(self._differences(pairs.first, pairs.second) @ self._weights)

    def told(self, pairs: Pairs) -> float:
        """What the predictions claim: nothing is corrected."""
        return claimed(self.predict(pairs))

    def _differences(self, first: np.ndarray, second: np.ndarray) -> Float64[np.ndarray, "pairs hidden"]:
        return np.asarray(self._features[first] - self._features[second], dtype=np.float64)


@dataclass
class PerUserMethod:
    """One model for each person alone, without anybody else's answers; margins have unit variance before any."""

    name: str = "per-user"
    features: Float64[np.ndarray, "rows hidden"] = field(init=False)

    def fit(self, problem: Problem, rng: np.random.Generator) -> None:  # noqa: ARG002 - nothing is learned
        """Scale the features so that compared rows lie at a mean squared distance of one."""
        features = np.eye(problem.rows) if problem.features is None else np.asarray(problem.features, dtype=np.float64)
        distances = features[problem.training.first] - features[problem.training.second]
        self.features = features / np.sqrt(np.square(distances).sum(axis=1).mean())

    def begin(self, person: TestPerson, rng: np.random.Generator) -> OwnSession:
        """Start a person of whom nothing is known."""
        return OwnSession(self.features, person.asked, rng)
