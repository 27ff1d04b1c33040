"""What must hold for single sessions, whatever they score: replay, order, sides, and what a question costs.

Knows methods only by their Protocol.
"""

from dataclasses import dataclass, replace
from time import process_time

import numpy as np
from jaxtyping import Float64

from app.training.evaluation.method import Method
from app.training.evaluation.problem import Pairs, Problem, Source, TestPerson
from app.training.evaluation.run import Record, begin, hidden

PEOPLE = 5
MIRRORED_WITHIN = 1e-9
POOL, ANSWERS, REPEATS = 10_000, 10, 20


@dataclass(frozen=True)
class Checks:
    """Whether predictions repeat and ignore order and side; the share of first sides preferred; milliseconds (p95).

    ``source`` is what the problem says of its texts and comparisons before sides were drawn, if anything.
    """

    replayed_identically: bool
    order_ignored: bool
    sides_mirrored: bool
    first_share: float
    first_share_expected_within: float
    choice_of_10000_milliseconds: float
    source: Source | None = None


def run_checks(method: Method, problem: Problem, records: list[Record]) -> Checks:
    """Check a fitted method on the first few people, with the questions that they were asked."""
    few = list(zip(problem.people, records, strict=True))[:PEOPLE]
    again = [_told(method, person, one.questions, one) for person, one in few]
    other_order = [_told(method, person, one.questions[::-1], one) for person, one in few]
    mirrored = [1.0 - _told(method, _mirrored(person), one.questions, one) for person, one in few]
    labels = np.concatenate([person.predicted.labels for person in problem.people])
    decided = labels[labels != 0.5]
    return Checks(
        replayed_identically=all(
            np.array_equal(p, one.probabilities[_last(one)]) for p, (_, one) in zip(again, few, strict=True)
        ),
        order_ignored=all(np.array_equal(p, q) for p, q in zip(other_order, again, strict=True)),
        sides_mirrored=all(
            np.allclose(p, q, rtol=0.0, atol=MIRRORED_WITHIN) for p, q in zip(mirrored, again, strict=True)
        ),
        first_share=float(decided.mean()),
        first_share_expected_within=float(4.0 * 0.5 / np.sqrt(_distinct_pairs(problem))),
        choice_of_10000_milliseconds=_choice_milliseconds(method, problem),
        source=problem.source,
    )


def _last(record: Record) -> int:
    return max(record.probabilities)


def _told(method: Method, person: TestPerson, questions: list[int], record: Record) -> Float64[np.ndarray, " tests"]:
    """Predictions of a new session that is told the answers to ``questions``, as many as the last prediction had."""
    session = begin(method, person, record.seed, 0)
    kept = set(record.questions[: _last(record)])
    for index in questions:
        if index in kept:
            session.observe(index, float(person.asked.labels[index]))
    return session.predict(hidden(person.predicted))


def _mirrored(person: TestPerson) -> TestPerson:
    """The same person with the sides of every pair exchanged."""
    asked, predicted = (
        Pairs(pairs.second, pairs.first, 1.0 - pairs.labels) for pairs in (person.asked, person.predicted)
    )
    return replace(person, asked=asked, predicted=predicted)


def _distinct_pairs(problem: Problem) -> int:
    """How many different pairs held-out people are predicted on; answers to one pair are not independent."""
    pairs = np.concatenate([np.stack([one.predicted.first, one.predicted.second], axis=1) for one in problem.people])
    return len(np.unique(pairs, axis=0))


def _choice_milliseconds(method: Method, problem: Problem) -> float:
    """95th percentile of choosing among 10,000 pairs of random rows, after ten answers."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, problem.rows, (2, POOL))
    labels = (rng.random(POOL) < 0.5).astype(np.float64)
    person = replace(problem.people[0], asked=Pairs(first, second, labels))
    session = begin(method, person, 0, 0)
    allowed = np.ones(POOL, dtype=bool)
    for index in range(ANSWERS):
        session.observe(index, float(labels[index]))
        allowed[index] = False
    seconds = []
    for _ in range(REPEATS):
        start = process_time()
        session.choose(allowed.copy())
        seconds.append(process_time() - start)
    return 1e3 * float(np.quantile(seconds, 0.95))
