"""The prior of a basis: the family that serves held-out people best, and whether it should read what people write."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    error; None if nobody wrote. ``own`` tells that the prior under which the heads were learned was better than all
    fitted ones on calibration people, and is the one chosen.
    """

    prior: Prior
    losses: dict[str, tuple[float, float]]
    reading: tuple[float, float] | None = None
    own: bool = False


def fit_prior(
    differences: Float64[np.ndarray, "comparisons basis"],
    labels: Float64[np.ndarray, " comparisons"],
    people: np.ndarray,
    about: Sequence[str | None],
    calibration: Sequence[RecordedPerson],
    rng: np.random.Generator,
    families: Sequence[PriorFit] = FAMILIES,
    own: Prior | None = None,
) -> FittedPrior:
    """Choose among the families that do not read, then let the one that does prove itself on new people's words.

    Last comes the prior under which the heads were learned: families are fitted on the people that the heads were
    fitted to, who seem to differ more than people do; calibration people decide.

    Args:
        differences: Basis reward differences of training people, of whom at most ``MOST_PEOPLE`` are used.
        labels: 1.0, 0.5 or 0.0.
        people: Who answered each comparison.
        about: What each distinct person wrote, in the order of ``numpy.unique(people)``.
        calibration: Held-out people; reading must lower the log-loss of those who wrote by more than a standard error.
        rng: Draws people, folds and orders.
        families: What to choose from, the simplest first.
        own: The prior under which the heads were learned, if any.
    """
    fitted = _fit_families(differences, labels, people, about, calibration, rng, families)
    if own is None or not calibration or mean_loss(calibration, own) > mean_loss(calibration, fitted.prior):
        return fitted
    return replace(fitted, prior=own, own=True)


def _fit_families(
    differences: Float64[np.ndarray, "comparisons basis"],
    labels: Float64[np.ndarray, " comparisons"],
    people: np.ndarray,
    about: Sequence[str | None],
    calibration: Sequence[RecordedPerson],
    rng: np.random.Generator,
    families: Sequence[PriorFit],
) -> FittedPrior:
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


def mean_loss(people: Sequence[RecordedPerson], prior: Prior) -> float:
    """Log-loss of people's held-out choices in nats, averaged over ``STAGES`` answers; zero where there is nobody."""
    return float(_losses(people, prior).mean()) if people else 0.0


def _losses(people: Sequence[RecordedPerson], prior: Prior) -> Float64[np.ndarray, " people"]:
    """Each person's log-loss of held-out choices, averaged over ``STAGES`` answers."""
    replays = [replay(person, prior, ResponseModel(), STAGES) for person in people]
    return np.array([np.mean([log_loss(p, one.labels) for p in one.probabilities.values()]) for one in replays])
