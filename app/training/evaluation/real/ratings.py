"""People who each gave a value to many of the same items: jester5k's jokes, polis_votes' statements.

A pair is two items that one person valued differently enough. Nothing is known of an item but its values, so features
are the identity. Each held-out person's items are parted: questions are about some, predictions about the others.
"""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from app.training.evaluation.problem import Pairs, Problem, TestPerson
from app.training.evaluation.real.held_out import (
    check_known,
    check_training,
    choose_held_out,
    is_enough,
    left_out,
    person_rng,
    with_random_sides,
)
from app.training.evaluation.real.lines import folder_of, read_lines

ASKED_SHARE = 0.6
"""Share of a held-out person's items that questions are about."""
TRAINING_PAIRS = 60
"""Most pairs drawn of a training person; pairs of one person share items, and more of them tell little more."""
HELD_OUT_PAIRS = 400
"""Most pairs drawn of a held-out person to ask, and most to predict."""


@dataclass(frozen=True)
class Rater:
    """A person with the distinct items (n,) they valued and their values (n,)."""

    name: str
    items: Int64[np.ndarray, " items"]
    values: Float64[np.ndarray, " items"]


@dataclass(frozen=True)
class Rated:
    """What people valued, read from ``folder``: ``rows`` items, and how far apart two values lie to make a pair."""

    name: str
    folder: Path
    raters: tuple[Rater, ...]
    rows: int
    gap: float


def read_jester(data: Path) -> Rated:
    """Ratings of 100 jokes from -10 to 10; a pair's ratings differ by at least 1."""
    folder = folder_of(data, "jester5k", "ratings.jsonl.gz")
    jokes = {line.text("joke_id"): number for number, line in enumerate(read_lines(folder / "jokes.jsonl.gz"))}
    raters = []
    for line in read_lines(folder / "ratings.jsonl.gz"):
        ratings = line.numbers("ratings")
        unknown = sorted(set(ratings) - set(jokes))
        if unknown:
            raise line.fault(f"rates {unknown[0]!r}, which jokes.jsonl.gz does not have")
        raters.append(_rater(line.text("user"), [jokes[joke] for joke in ratings], ratings.values()))
    return Rated("jester5k", folder, tuple(raters), len(jokes), gap=1.0)


def read_polis(data: Path) -> Rated:
    """Votes on statements of a person's own conversation; a pair is one agreed with and one disagreed with.

    Passes make no pairs: with pairs of agreed over passed and passed over disagreed in training, held-out people were
    predicted less well.
    """
    folder = folder_of(data, "polis_votes", "votes.jsonl.gz")
    statements: dict[tuple[str, str], int] = {}
    for line in read_lines(folder / "statements.jsonl.gz"):
        statements.setdefault((line.text("conversation"), line.text("statement_id")), len(statements))
    raters = []
    for line in read_lines(folder / "votes.jsonl.gz"):
        votes, conversation = line.numbers("votes"), line.text("conversation")
        for statement, vote in votes.items():
            if (conversation, statement) not in statements:
                raise line.fault(f"votes on {statement!r}, which {conversation!r} in statements.jsonl.gz does not have")
            if vote not in (1.0, 0.0, -1.0):
                raise line.fault(f"the vote on {statement!r} is {vote:g}, not 1, 0 or -1")
        items = [statements[conversation, statement] for statement in votes]
        raters.append(_rater(line.text("user"), items, votes.values()))
    return Rated("polis_votes", folder, tuple(raters), len(statements), gap=2.0)


def rated_problem(rated: Rated, seed: int, test_users: Set[str] | None) -> Problem:
    """Draw held-out people, and pairs of everyone."""
    rng = np.random.default_rng(seed)
    people = [_test_person(rater, rated.gap, person_rng(seed, rater.name)) for rater in rated.raters]
    able = np.array([is_enough(one.asked, one.predicted) for one in people], dtype=bool)
    names = [one.name for one in people]
    check_known(test_users or frozenset(), names, rated.folder)
    held = choose_held_out(names, able, test_users, rng)
    drawn = [
        pairs_apart(rater.items, rater.values, rated.gap, TRAINING_PAIRS, rng)
        for rater, out in zip(rated.raters, held, strict=True)
        if not out
    ]
    drawn = [pairs for pairs in drawn if len(pairs)]
    check_training(rated.name, len(drawn), int(held.sum()))
    return Problem(
        name=rated.name,
        features=None,
        rows=rated.rows,
        training=_joined(drawn),
        training_people=np.repeat(np.arange(len(drawn)), [len(pairs) for pairs in drawn]),
        people=tuple(one for one, chosen in zip(people, held & able, strict=True) if chosen),
        rank=None,
        left_out=left_out(names, able, held),
    )


def pairs_apart(
    items: Int64[np.ndarray, " items"],
    values: Float64[np.ndarray, " items"],
    gap: float,
    most: int,
    rng: np.random.Generator,
) -> Pairs:
    """Pairs of items whose values differ by ``gap`` or more, at most ``most`` drawn without replacement.

    The label is 1.0 where the first item has the larger value, else 0.0; sides are random.
    """
    one, other = np.triu_indices(len(items), 1)
    apart = np.flatnonzero(np.abs(values[one] - values[other]) >= gap)
    if len(apart) > most:
        apart = rng.choice(apart, most, replace=False)
    one, other = one[apart], other[apart]
    labels = (values[one] > values[other]).astype(np.float64)
    return with_random_sides(Pairs(items[one], items[other], labels), rng)


def _rater(name: str, items: Sequence[int], values: Collection[float]) -> Rater:
    return Rater(name, np.array(items, dtype=np.int64), np.fromiter(values, np.float64, len(values)))


def _test_person(rater: Rater, gap: float, rng: np.random.Generator) -> TestPerson:
    order = rng.permutation(len(rater.items))
    size = round(ASKED_SHARE * len(order))
    asked, predicted = (
        pairs_apart(rater.items[part], rater.values[part], gap, HELD_OUT_PAIRS, rng)
        for part in (order[:size], order[size:])
    )
    return TestPerson(rater.name, asked, predicted)


def _joined(parts: Sequence[Pairs]) -> Pairs:
    first, second, labels = zip(*((one.first, one.second, one.labels) for one in parts), strict=True)
    return Pairs(np.concatenate(first), np.concatenate(second), np.concatenate(labels))
