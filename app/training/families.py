"""The prior of a basis: the family that serves held-out people best, and whether it should read what people write."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior, PriorFit
from app.preferences.population import log_loss
from app.preferences.priors.about import AboutFit
from app.preferences.priors.choose import FAMILIES, choose_prior
from app.training.replay import RecordedPerson, replay

MOST_PEOPLE = 800
STAGES = (0, 3, 10)


@dataclass(frozen=True)
class FittedPrior:
    """The chosen ``prior``, and each family's held-out log-loss in nats with its standard error over people.

    ``reading`` is, on the calibration people who wrote something, the log-loss that reading saved, with its standard
    error; None if nobody wrote.
    """

    prior: Prior
    losses: dict[str, tuple[float, float]]
    reading: tuple[float, float] | None = None


def fit_prior(
    differences: Float64[np.ndarray, "comparisons basis"],
    labels: Float64[np.ndarray, " comparisons"],
    people: np.ndarray,
    about: Sequence[str | None],
    calibration: Sequence[RecordedPerson],
    rng: np.random.Generator,
    families: Sequence[PriorFit] = FAMILIES,
) -> FittedPrior:
    """Choose among the families that do not read, then let the one that does prove itself on new people's words.

    Args:
        differences: Basis reward differences of training people, of whom at most ``MOST_PEOPLE`` are used.
        labels: 1.0, 0.5 or 0.0.
        people: Who answered each comparison.
        about: What each distinct person wrote, in the order of ``numpy.unique(people)``.
        calibration: Held-out people; reading must lower the log-loss of those who wrote by more than a standard error.
        rng: Draws people, folds and orders.
        families: What to choose from, the simplest first.
    """
    ids = np.unique(people)
    chosen = np.sort(rng.permutation(len(ids))[:MOST_PEOPLE])
    kept = np.isin(people, ids[chosen])
    columns = differences[kept], labels[kept], people[kept]
    choice = choose_prior(*columns, families=families, rng=rng)
    writers = [person for person in calibration if person.about]
    texts = [about[index] for index in chosen]
    if not writers or not any(texts):
        return FittedPrior(choice.prior, choice.losses)
    reader = AboutFit()(*columns, texts, rng)
    saved = _losses(writers, choice.prior) - _losses(writers, reader)
    gain, error = float(saved.mean()), float(saved.std(ddof=1) / len(saved) ** 0.5) if len(saved) > 1 else np.inf
    return FittedPrior(reader if gain > error else choice.prior, choice.losses, (gain, error))


def best_prior(people: Sequence[RecordedPerson], candidates: Sequence[Prior]) -> Prior:
    """The candidate under which people whom neither heads nor prior have seen are predicted best, by log-loss.

    The first of equals, and the first where there is nobody to judge.
    """
    if not people or len(candidates) == 1:
        return candidates[0]
    return min(candidates, key=lambda prior: float(_losses(people, prior).mean()))


def _losses(people: Sequence[RecordedPerson], prior: Prior) -> Float64[np.ndarray, " people"]:
    """Each person's log-loss of held-out choices, averaged over ``STAGES`` answers."""
    replays = [replay(person, prior, ResponseModel(), STAGES) for person in people]
    return np.array([np.mean([log_loss(p, one.labels) for p in one.probabilities.values()]) for one in replays])
