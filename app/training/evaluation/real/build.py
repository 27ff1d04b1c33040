"""Builds an evaluation problem from a data set of real people by its name."""

from collections.abc import Callable, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from app.errors import InvalidInput
from app.training.evaluation.problem import Problem, Source
from app.training.evaluation.real.judgments import Judged, judged_problem, read_mt_bench, read_ukp
from app.training.evaluation.real.ratings import Rated, rated_problem, read_jester, read_polis
from app.training.evaluation.real.texts import RawFeatures, raw_features

RATED: dict[str, Callable[[Path], Rated]] = {"jester5k": read_jester, "polis_votes": read_polis}
JUDGED: dict[str, Callable[[Path], Judged]] = {"ukpconvarg1": read_ukp, "mt_bench_human": read_mt_bench}
REAL_PEOPLE = (*RATED, *JUDGED)
CHECKED_PAIRS = 16
"""Pairs whose texts are read a second time, the second side first."""
BUNDLED_MODEL = Path(__file__).parents[3] / "bundled" / "model"


def build_problem(
    name: str, data: Path, seed: int, test_users: Set[str] | None = None, *, model: Path = BUNDLED_MODEL
) -> Problem:
    """One draw of a data set: the same seed gives the same problem.

    Args:
        name: One of ``REAL_PEOPLE``.
        data: The data set's own folder, or the folder of all data sets.
        seed: Seeds who is held out, what they are predicted on, and which pairs are drawn.
        test_users: Ids of exactly the people to hold out; those with too few answers are left out altogether. None
            draws a tenth of the people who answered enough.
        model: Checkpoint of the language model that reads judged texts.

    Raises:
        InvalidInput: If the name, a file, a line or a test user is not as it must be.
    """
    if name in RATED:
        return rated_problem(RATED[name](data), seed, test_users)
    if name not in JUDGED:
        raise InvalidInput(f"There is no data set '{name}'; choose one of {', '.join(REAL_PEOPLE)}.")
    judged = JUDGED[name](data)
    features = raw_features(judged.texts, model)
    problem = judged_problem(judged, seed, test_users, features.standardised)
    return replace(problem, source=source_of(judged, features, model))


def source_of(judged: Judged, features: RawFeatures, model: Path) -> Source:
    """How often the first side wins as recorded, and whether texts of a few pairs read alike with sides exchanged."""
    labels = judged.pairs.labels
    sides = (judged.pairs.second[:CHECKED_PAIRS], judged.pairs.first[:CHECKED_PAIRS])
    rows = np.stack(sides, axis=1).reshape(-1)
    again = raw_features(tuple(judged.texts[row] for row in rows), model)
    return Source(float((labels[labels != 0.5] == 1.0).mean()), again.is_like(features, rows))
