"""Learns a basis from comparisons: heads, names of the axes, prior, calibration, and the scores of it all.

People and prompts are both held out: heads and prior come from training people on training prompts; calibration people
fix the response model and the certainty curve; test people only give the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from app.entities import Axis
from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior, PriorFit
from app.preferences.certainty import CertaintyCurve
from app.preferences.priors.choose import FAMILIES
from app.preferences.priors.gaussian import GaussianFit, GaussianPrior
from app.preferences.priors.simplex import SimplexFit
from app.preferences.priors.words import hashed_words, rarities, unit_rows
from app.training.axes import find_turn, name_axes
from app.training.calibration import choose_response, choose_scale, choose_trust, fit_certainty, trusted
from app.training.dataset import ComparisonData
from app.training.evidence import Certainty, Evidence, check_certainty
from app.training.families import FittedPrior, fit_prior
from app.training.methods import QUIET, BasisMethod, Run, TrainingData
from app.training.properties import PropertyScale
from app.training.replay import RecordedPerson
from app.training.splits import Splits

MOST_CALIBRATED, MOST_TESTED = 200, 240


@dataclass(frozen=True)
class Setup:
    """What does not come from the data: ``method``, property ``scale`` that names the axes, ``seed``, and the ``run``.

    All people take part in learning the heads. Those ``served`` (everyone, if None) are the population that prior,
    calibration and scores are about; the others get a prior and scores of their own. Certainty is calibrated on the
    rows ``as_served`` (all, if None): texts of the kind that it will be told about.
    """

    method: BasisMethod
    scale: PropertyScale
    seed: int
    served: Bool[np.ndarray, " people"] | None = None
    as_served: Bool[np.ndarray, " rows"] | None = None
    run: Run = QUIET


@dataclass(frozen=True)
class FittedBasis:
    """Everything that an artifact is made of, and the scores for its card.

    ``calibrated_on`` and ``tested_on`` count the held-out people with enough comparisons for the one and the other.
    """

    method: BasisMethod
    heads: Float64[np.ndarray, "basis hidden"]
    offset: Float64[np.ndarray, " basis"]
    axes: tuple[Axis, ...]
    correlations: list[float]
    chosen: FittedPrior
    response: ResponseModel
    certainty_curve: CertaintyCurve
    certainties: list[Certainty]
    evidence: Evidence
    others: Evidence | None
    calibrated_on: int
    tested_on: int

    def rewards(self, features: Float64[np.ndarray, "*rows hidden"]) -> Float64[np.ndarray, "*rows basis"]:
        """Basis rewards of texts with these pooled features."""
        rewards: Float64[np.ndarray, "*rows basis"] = features @ self.heads.T + self.offset
        return rewards


def training_data(data: ComparisonData, features: Float64[np.ndarray, "rows hidden"], splits: Splits) -> TrainingData:
    """What methods may learn from: training people, with what they wrote of themselves, on training rows."""
    use = splits.training(data)
    names, people = np.unique(data.people[use], return_inverse=True)
    about = hashed_words([data.about[name] for name in names])
    written = unit_rows(about, rarities(about)) if about.any() else None
    columns = data.first[use], data.second[use], people.astype(np.int64), data.labels[use]
    return TrainingData(features, *columns, written)


def fit_basis(
    data: ComparisonData, features: Float64[np.ndarray, "rows hidden"], splits: Splits, setup: Setup
) -> FittedBasis:
    """Fit and score a basis.

    Args:
        data: Comparisons of people with at least a few answers each.
        features: Pooled hidden states of ``data.rows``.
        splits: Held-out people and rows.
        setup: Method, scale and population.
    """
    rng = np.random.default_rng(setup.seed)
    learned = setup.method.fit(training_data(data, features, splits), rng, setup.run)
    raw = features @ learned.heads.T
    properties = setup.scale.standardise([text for _, text in data.rows])
    turn = find_turn(raw[~splits.held_out], properties[~splits.held_out])
    rewards = turn.apply(raw)
    axes, correlations = name_axes(turn, rewards[splits.held_out], properties[splits.held_out])
    served = np.ones(len(data.names), dtype=bool) if setup.served is None else setup.served
    own = None if learned.prior is None else GaussianPrior(turn.belief(learned.prior))
    corners = () if learned.vertices is None else (SimplexFit(turn.coefficients(learned.vertices)),)
    everyone = _Population(data, rewards, splits, served)
    population, chosen, response = everyone.calibrated(rng, (*FAMILIES, *corners), own)
    told_about = population.recorded(1, setup.as_served)
    curve = fit_certainty(told_about, chosen.prior, response)
    told_to = population.recorded(2, setup.as_served)
    tested = population.recorded(2)
    return FittedBasis(
        method=setup.method,
        heads=population.scale * turn.matrix @ learned.heads,
        offset=-population.scale * turn.matrix @ turn.centre,
        axes=axes,
        correlations=correlations,
        chosen=chosen,
        response=response,
        certainty_curve=curve,
        certainties=check_certainty(told_to, chosen.prior, response, curve),
        evidence=Evidence.of(tested, chosen.prior, response, rng),
        others=_score_others(_Population(data, rewards, splits, ~served), rng),
        calibrated_on=len(population.recorded(1)),
        tested_on=len(tested),
    )


@dataclass(frozen=True)
class _Population:
    """Some of the people, with the basis ``rewards`` of all texts: those that were learned, times ``scale``."""

    data: ComparisonData
    rewards: Float64[np.ndarray, "rows basis"]
    splits: Splits
    members: Bool[np.ndarray, " people"]
    scale: float = 1.0

    def recorded(self, part: int, kind: Bool[np.ndarray, " rows"] | None = None) -> list[RecordedPerson]:
        """Members of the calibration or test part."""
        chosen = (self.splits.part == part) & self.members
        most = MOST_CALIBRATED if part == 1 else MOST_TESTED
        return self.splits.recorded(self.data, self.rewards, chosen, most=most, kind=kind)

    def calibrated(
        self, rng: np.random.Generator, families: Sequence[PriorFit] = FAMILIES, own: Prior | None = None
    ) -> tuple["_Population", FittedPrior, ResponseModel]:
        """Prior of the training members; scale, trust and response by the calibration members, on held-out topics."""
        use = self.splits.training(self.data) & self.members[self.data.people]
        first, second, people = (column[use] for column in (self.data.first, self.data.second, self.data.people))
        about = [self.data.about[person] for person in np.unique(people)]
        calibration = self.recorded(1)
        differences = self.rewards[first] - self.rewards[second]
        chosen = fit_prior(differences, self.data.labels[use], people, about, calibration, rng, families, own)
        scale = choose_scale(calibration, chosen.prior, rng)
        scaled = replace(self, rewards=scale * self.rewards, scale=scale)
        calibration = scaled.recorded(1)
        prior = trusted(chosen.prior, choose_trust(calibration, chosen.prior, rng))
        return scaled, replace(chosen, prior=prior), choose_response(calibration, prior, rng)


def _score_others(population: _Population, rng: np.random.Generator) -> Evidence | None:
    if not population.members.any():
        return None
    population, chosen, response = population.calibrated(rng, (GaussianFit(),))
    return Evidence.of(population.recorded(2), chosen.prior, response, rng)
