"""Chooses the family of priors that serves people best who were not there when it was fitted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers
from app.preferences.belief import Prior, PriorFit
from app.preferences.priors.about import AboutFit
from app.preferences.priors.atoms import AtomsFit
from app.preferences.priors.gaussian import GaussianFit
from app.preferences.priors.heldout import sequential_losses
from app.preferences.priors.mixture import MixtureFit

FOLDS = 4
MOST_PEOPLE = 240  # that judge the families; the chosen one is fitted on all
MOST_COMPARISONS = 40  # of each person, while judging
NEGLIGIBLE = 0.001  # nats an answer: not worth a less simple family

# From the simplest on: of families that serve people equally well, the first is taken.
FAMILIES: tuple[PriorFit, ...] = (GaussianFit(), AboutFit(), AtomsFit(), MixtureFit())


@dataclass(frozen=True)
class Choice:
    """The chosen ``prior``, fitted on everyone, and each family's mean ``losses`` with standard errors over people.

    Losses are of left-out people's answers, in nats, averaged over the stages of ``heldout.STAGES``.
    """

    prior: Prior
    losses: dict[str, tuple[float, float]]


def choose_prior(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    people: np.ndarray,
    *,
    families: Sequence[PriorFit] = FAMILIES,
    about: Sequence[str | None] | None = None,
    rng: np.random.Generator,
) -> Choice:
    """Fit every family on folds of people, judge it by the others' answers, and fit the best on everyone.

    People left out answer in random order; after 0, 3 and 10 answers of their own the rest is predicted. A simpler
    family is taken if it is within one standard error, over people, of the paired difference to the best, or within
    ``NEGLIGIBLE``. Families that read ``about`` are left out if there is none.

    Args:
        differences: Basis rewards of the first candidate minus the second, of all people.
        first_preferred: 1.0 where the first candidate was preferred, 0.0 where the second, 0.5 for a tie.
        people: Who answered each comparison; any integers.
        families: From the simplest on; one family is fitted without judging.
        about: What each distinct person wrote, in the order of ``numpy.unique(people)``; None if nobody did.
        rng: Draws the judges (at most 240, with at most 40 comparisons each), folds and orders; it is advanced.

    Returns:
        The choice; its losses are empty if there was only one family, or fewer than two people a fold.

    Raises:
        ValueError: If there is no family or no comparison, or an array disagrees in length or is not finite.
    """
    if not families:
        raise ValueError("There is no family of priors to choose from; pass at least one.")
    if about is None and len(families) > 1:
        families = [family for family in families if family.family != AboutFit.family]
    ids = np.unique(people)
    if len(families) == 1 or len(ids) < 2 * FOLDS:
        return Choice(families[0](differences, first_preferred, people, about, rng), {})
    judges = np.sort(rng.permutation(len(ids))[:MOST_PEOPLE])
    kept = _shuffled(people, ids[judges], rng)
    panel = _Panel(differences[kept], first_preferred[kept], people[kept], _of(about, judges))
    folds = rng.permutation(len(judges)) % FOLDS
    losses = {family.family: panel.losses(family, folds, rng) for family in families}
    best = min(losses.values(), key=lambda each: float(each.mean()))
    chosen = next(family for family in families if _as_good(losses[family.family], best))
    prior = chosen(differences, first_preferred, people, about, rng)
    return Choice(prior, {name: (float(each.mean()), _standard_error(each)) for name, each in losses.items()})


@dataclass(frozen=True)
class _Panel:
    """Comparisons of the people who judge, each person's in random order."""

    differences: Float64[np.ndarray, "comparisons basis"]
    first_preferred: Float64[np.ndarray, " comparisons"]
    people: np.ndarray
    about: Sequence[str | None] | None

    def losses(self, family: PriorFit, folds: np.ndarray, rng: np.random.Generator) -> Float64[np.ndarray, " people"]:
        """Mean loss over the stages of everyone, each under a prior fitted on the people of other folds."""
        ids = np.unique(self.people)
        losses = np.empty(len(ids))
        for fold in range(FOLDS):
            fitted = np.isin(self.people, ids[folds != fold])
            texts = _of(self.about, np.flatnonzero(folds != fold))
            prior = family(self.differences[fitted], self.first_preferred[fitted], self.people[fitted], texts, rng)
            for person in np.flatnonzero(folds == fold):
                own = self.people == ids[person]
                told = prior.told(None if self.about is None else self.about[int(person)])
                stages = sequential_losses(told, Answers.of(self.differences[own], self.first_preferred[own]))
                losses[person] = np.nanmean(stages)
        return losses


def _shuffled(people: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At most ``MOST_COMPARISONS`` rows of each chosen person, in random order."""
    order = rng.permutation(len(people))
    order = order[np.isin(people[order], chosen)]
    grouped = order[np.argsort(people[order], kind="stable")]
    owners = people[grouped]
    place = np.arange(len(grouped)) - np.searchsorted(owners, owners)
    return np.asarray(grouped[place < MOST_COMPARISONS])


def _of(about: Sequence[str | None] | None, chosen: np.ndarray) -> list[str | None] | None:
    """What the chosen people wrote."""
    return None if about is None else [about[int(index)] for index in chosen]


def _as_good(losses: Float64[np.ndarray, " people"], best: Float64[np.ndarray, " people"]) -> bool:
    """Whether losses are within one standard error of the best ones, person against person, or next to nothing."""
    return bool((losses - best).mean() <= max(_standard_error(losses - best), NEGLIGIBLE))


def _standard_error(values: Float64[np.ndarray, " people"]) -> float:
    """Of the mean over people."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
