"""A small problem and methods of known behaviour, for tests of the evaluation itself."""

from dataclasses import replace

import numpy as np

from app.preferences.logistic import sigmoid
from app.training.evaluation.method import claimed
from app.training.evaluation.problem import Pairs, Problem, TestPerson


def draw_problem(seed=0, people=12, training_people=20, counts=(0, 1, 4), active=True):
    """People with one taste each over three features; everyone likes the first."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((400, 3))

    def answered(taste, count):
        pairs = rng.integers(0, len(features), (count, 2))
        margins = (features[pairs[:, 0]] - features[pairs[:, 1]]) @ taste
        return Pairs(pairs[:, 0], pairs[:, 1], (rng.random(count) < sigmoid(margins)) * 1.0)

    tastes = np.array([1.5, 0.0, 0.0]) + 2.0 * rng.standard_normal((training_people + people, 3))
    parts = [answered(taste, 30) for taste in tastes[:training_people]]
    training = Pairs(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("first", "second", "labels"))
    )
    held_out = tuple(
        TestPerson(f"{seed}:{number}", answered(taste, 20), answered(taste, 40))
        for number, taste in enumerate(tastes[training_people:])
    )
    owners = np.repeat(np.arange(training_people), 30)
    return Problem("small", features, 400, training, owners, held_out, 3, counts, active=active)


class Remembering:
    """A session that asks from the first pair on, and predicts by the share of first sides preferred so far."""

    def __init__(self, person):
        self.person, self.seen, self.labels = person, [], []

    def choose(self, allowed):
        return int(np.flatnonzero(allowed)[0])

    def observe(self, index, label):
        self.seen.append(index)
        self.labels.append(label)

    def predict(self, pairs):
        return np.full(len(pairs), (1.0 + sum(self.labels)) / (2.0 + len(self.labels)))

    def told(self, pairs):
        return claimed(self.predict(pairs)) / 2.0


class RememberingMethod:
    name = "remembering"

    def __init__(self):
        self.begun = []

    def fit(self, problem, rng):
        pass

    def begin(self, person, rng):
        self.begun.append(Remembering(person))
        return self.begun[-1]


def with_asked(person, count):
    """The person with fewer pairs to ask."""
    pairs = person.asked
    return replace(person, asked=Pairs(pairs.first[:count], pairs.second[:count], pairs.labels[:count]))
