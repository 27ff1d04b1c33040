"""Asks held-out people and predicts them: every method sees the same people, the same pairs and the same answers.

Knows methods only by their Protocol. People are asked side by side, one question each a round.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import process_time

import numpy as np
from jaxtyping import Bool, Float64

from app.training.evaluation.method import Method, Session
from app.training.evaluation.problem import Pairs, Problem, TestPerson


@dataclass
class Record:
    """One held-out person with one method: predictions (tests,) of their choices after each number of answers.

    ``told`` are the certainties told; ``choosing`` and ``observing`` the processor seconds of each question and answer.
    """

    seed: int
    name: str
    labels: Float64[np.ndarray, " tests"]
    questions: list[int] = field(default_factory=list)
    probabilities: dict[int, Float64[np.ndarray, " tests"]] = field(default_factory=dict)
    told: dict[int, float] = field(default_factory=dict)
    choosing: list[float] = field(default_factory=list)
    observing: list[float] = field(default_factory=list)


def hidden(pairs: Pairs) -> Pairs:
    """The same pairs with NaN for labels: what a method is shown, so that it cannot look."""
    return replace(pairs, labels=np.full(len(pairs), np.nan))


def begin(method: Method, person: TestPerson, seed: int, number: int) -> Session:
    """A session of the ``number``-th person, with a random stream of its own and no labels in sight."""
    blind = replace(person, asked=hidden(person.asked), predicted=hidden(person.predicted))
    return method.begin(blind, np.random.default_rng([seed, number]))


def ask_people(method: Method, problem: Problem, people: Sequence[TestPerson], seed: int) -> list[Record]:
    """Ask everyone up to the largest count, or until they have no pairs left; predict at each of the counts."""
    sessions = [begin(method, person, seed, number) for number, person in enumerate(people)]
    records = [Record(seed, person.name, person.predicted.labels) for person in people]
    left = [np.ones(len(person.asked), dtype=bool) for person in people]
    present = list(range(len(people)))
    for answered in range(max(problem.counts) + 1):
        if answered in problem.counts:
            for number in present:
                _predict(method, sessions[number], people[number], records[number], answered)
        present = [number for number in present if left[number].any()]
        if answered < max(problem.counts):
            for number in present:
                _choose(sessions[number], records[number], left[number], problem.active)
            for number in present:
                _observe(sessions[number], records[number], people[number], left[number])
    return records


def swapped(people: Sequence[TestPerson]) -> list[TestPerson]:
    """Control: everyone's choices are predicted from the answers of the next person."""
    following = [*people[1:], *people[:1]]
    return [
        replace(other, name=one.name, predicted=one.predicted) for one, other in zip(people, following, strict=True)
    ]


def with_shuffled_answers(people: Sequence[TestPerson], rng: np.random.Generator) -> list[TestPerson]:
    """Control: each person's answers are dealt to their questions at random."""
    return [
        replace(person, asked=replace(person.asked, labels=rng.permutation(person.asked.labels))) for person in people
    ]


def with_shuffled_people(problem: Problem, rng: np.random.Generator) -> Problem:
    """Control: training answers are dealt to people at random; what all have in common stays, tastes do not."""
    return replace(problem, training_people=rng.permutation(problem.training_people), about=None)


def _predict(method: Method, session: Session, person: TestPerson, record: Record, answered: int) -> None:
    pairs = hidden(person.predicted)
    probabilities = session.predict(pairs)
    if probabilities.shape != (len(person.predicted),) or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(f"{method.name} must predict one probability for each of {len(person.predicted)} pairs.")
    record.probabilities[answered] = probabilities
    if len(probabilities):
        record.told[answered] = session.told(pairs)


def _choose(session: Session, record: Record, left: Bool[np.ndarray, " pairs"], active: bool) -> None:
    allowed = left if active else np.arange(len(left)) == int(np.flatnonzero(left)[0])
    start = process_time()
    index = session.choose(allowed.copy())
    record.choosing.append(process_time() - start)
    if not allowed[index]:
        raise ValueError(f"Question {index} was not allowed; choose among the allowed pairs.")
    record.questions.append(index)


def _observe(session: Session, record: Record, person: TestPerson, left: Bool[np.ndarray, " pairs"]) -> None:
    index = record.questions[-1]
    left[index] = False
    start = process_time()
    session.observe(index, float(person.asked.labels[index]))
    record.observing.append(process_time() - start)
