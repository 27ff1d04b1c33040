"""Which people are held out, and what they must have answered to be. Knows neither texts nor answers."""

from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from app.errors import InvalidInput
from app.training.evaluation.problem import Pairs

FEWEST_ASKED = 20
FEWEST_PREDICTED = 5
"""Pairs of a held-out person that can be asked, and decided ones that can be predicted."""
HELD_OUT_SHARE = 0.1
FEWEST_PEOPLE, LARGEST_SHARE = 100, 1 / 3
"""A tenth of the people are held out; if these are fewer than 100, then 100, but at most a third."""
FEWEST_TRAINING = 10
"""People to learn from, of whom some are set aside."""


def is_enough(asked: Pairs, predicted: Pairs) -> bool:
    """Whether a person with these pairs can be asked and predicted as often as results are reported."""
    return len(asked) >= FEWEST_ASKED and int((predicted.labels != 0.5).sum()) >= FEWEST_PREDICTED


def choose_held_out(
    names: Sequence[str],
    able: Bool[np.ndarray, " people"],
    test_users: Set[str] | None,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " people"]:
    """Mark the people that nothing may be learned from.

    Args:
        names: Everyone's id.
        able: Who has answered enough to be evaluated.
        test_users: Exactly these are held out, able or not; None draws among the able.
        rng: Draws; the order of ``names`` does not matter to it.

    Raises:
        InvalidInput: If none of the test users is able.
    """
    if test_users is None:
        count = round(max(HELD_OUT_SHARE * able.sum(), min(FEWEST_PEOPLE, LARGEST_SHARE * able.sum())))
        candidates = sorted(name for name, one in zip(names, able, strict=True) if one)
        test_users = {candidates[i] for i in rng.permutation(len(candidates))[:count]}
    held = np.array([name in test_users for name in names], dtype=bool)
    if not (held & able).any():
        raise InvalidInput(
            f"Nobody held out has {FEWEST_ASKED} pairs to ask and {FEWEST_PREDICTED} decided ones on other texts to "
            "predict; hold out people with more answers."
        )
    return held


def left_out(
    names: Sequence[str], able: Bool[np.ndarray, " people"], held: Bool[np.ndarray, " people"]
) -> tuple[str, ...]:
    """Who is held out and not able, by name."""
    return tuple(sorted(name for name, one in zip(names, held & ~able, strict=True) if one))


def check_training(name: str, learners: int, held: int) -> None:
    """Raise ``InvalidInput`` if there are too few people with comparisons to learn from once ``held`` are held out."""
    if learners < FEWEST_TRAINING:
        raise InvalidInput(
            f"With {held} people held out, {learners} are left whose comparisons '{name}' can be learned from, and "
            f"{FEWEST_TRAINING} are needed; hold out fewer, or add people."
        )


def person_rng(seed: int, name: str) -> np.random.Generator:
    """A random stream of a person's own: what is drawn for them does not depend on who else is in the data."""
    return np.random.default_rng([seed, *name.encode()])


def with_random_sides(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Each pair with its sides, and its label, swapped or not with equal chance: sides tell nothing."""
    swapped = rng.random(len(pairs)) < 0.5
    labels: Float64[np.ndarray, " pairs"] = np.where(swapped, 1.0 - pairs.labels, pairs.labels)
    first, second = np.where(swapped, pairs.second, pairs.first), np.where(swapped, pairs.first, pairs.second)
    return Pairs(first, second, labels)


def check_known(test_users: Set[str], names: Sequence[str], data: Path) -> None:
    """Raise ``InvalidInput`` if a test user is none of ``names``, who were read from ``data``."""
    unknown = sorted(test_users - set(names))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise InvalidInput(
            f"{len(unknown)} of {len(test_users)} test users are not among the {len(names)} people of {data}: "
            f"{', '.join(unknown[:5])}{more}; use ids such as {min(names, default='none')}.",
            field="test_users",
        )
