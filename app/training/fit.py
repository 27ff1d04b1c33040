"""Learns a basis from comparisons: heads, names of the axes, population prior, calibration, scores.

People and prompts are both held out: heads and prior come from training people on training prompts;
calibration people fix the exponent and the certainty scale; test people only give the scores.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.entities import Axis, Conversation
from app.preferences.population import fit_certainty_scale, fit_population, log_loss
from app.preferences.posterior import Posterior
from app.training.axes import find_turn, name_axes
from app.training.dataset import ComparisonData
from app.training.factorization import fit_factorization
from app.training.properties import PropertyScale
from app.training.replay import RecordedPerson, Replayed, ReplayScores, replay, score

EXPONENTS = (0.4, 0.55, 0.7, 0.85, 1.0)
CALIBRATED_AT = (1, 3, 5, 10, 20)
MOST_REPLAYED = 120
MOST_FOR_PRIOR = 500


@dataclass(frozen=True)
class Splits:
    """Who and what is held out: ``part`` (people,) is 0 training, 1 calibration, 2 test; ``held_out`` (rows,)."""

    part: Int64[np.ndarray, " people"]
    held_out: Bool[np.ndarray, " rows"]

    @classmethod
    def draw(
        cls, data: ComparisonData, rng: np.random.Generator, training_only: Collection[Conversation] = ()
    ) -> "Splits":
        """A tenth of the people each for calibration and test; a fifth of the topics held out.

        A topic is the first line of the last turn of a prompt. Prompts in ``training_only`` are never held out.
        """
        part = np.searchsorted([0.8, 0.9], rng.permutation(len(data.names)) / max(1, len(data.names)), side="right")
        topics = [prompt[-1].content.split("\n")[0] for prompt, _ in data.rows]
        names = dict.fromkeys(topics)
        held = dict(zip(names, rng.random(len(names)) < 0.2, strict=True))
        free = [prompt not in training_only for prompt, _ in data.rows]
        return cls(part, np.array([held[topic] and one for topic, one in zip(topics, free, strict=True)]))


@dataclass(frozen=True)
class Certainty:
    """After ``answers`` answers: what people of the test part were told, and what came true, on held-out choices."""

    answers: int
    told: float
    realised: float


@dataclass(frozen=True)
class FittedBasis:
    """Everything that an artifact is made of, and the scores for its card."""

    heads: Float64[np.ndarray, "basis hidden"]
    offset: Float64[np.ndarray, " basis"]
    axes: tuple[Axis, ...]
    correlations: list[float]
    prior: Posterior
    exponent: float
    certainty_scale: float
    certainties: list[Certainty]
    personal: list[ReplayScores]
    swapped: list[ReplayScores]
    others: list[ReplayScores]

    def rewards(self, features: Float64[np.ndarray, "rows hidden"]) -> Float64[np.ndarray, "rows basis"]:
        """Basis rewards of texts with these pooled features."""
        rewards: Float64[np.ndarray, "rows basis"] = features @ self.heads.T + self.offset
        return rewards


def fit_basis(
    data: ComparisonData,
    features: Float64[np.ndarray, "rows hidden"],
    splits: Splits,
    *,
    rank: int,
    scale: PropertyScale,
    seed: int,
    served: Bool[np.ndarray, " people"] | None = None,
    as_served: Bool[np.ndarray, " rows"] | None = None,
) -> FittedBasis:
    """Fit and score a basis.

    All people take part in learning the heads. Those ``served`` (everyone, if None) are the population that the
    prior, the calibration and the scores are about; the others get a prior and scores of their own. Certainty is
    calibrated on the rows ``as_served`` (all, if None): texts of the kind that it will be told about.

    Args:
        data: Comparisons of people with at least a few answers each.
        features: Pooled hidden states of ``data.rows``.
        splits: Held-out people and rows.
        rank: K, the number of basis rewards.
        scale: Standardises the properties that name the axes.
        seed: Seeds everything random.
    """
    rng = np.random.default_rng(seed)
    use = (splits.part[data.people] == 0) & ~splits.held_out[data.first] & ~splits.held_out[data.second]
    people = np.unique(data.people[use], return_inverse=True)[1]
    factors = fit_factorization(
        features, data.first[use], data.second[use], people, data.labels[use], rank=rank, seed=seed
    )
    raw = features @ factors.heads.T
    properties = scale.standardise([text for _, text in data.rows])
    turn = find_turn(raw[~splits.held_out], properties[~splits.held_out])
    rewards = turn.apply(raw)
    axes, correlations = name_axes(turn, rewards[splits.held_out], properties[splits.held_out])
    heads = turn.matrix @ factors.heads
    served = np.ones(len(data.names), dtype=bool) if served is None else served
    prior = _prior(data, rewards, use & served[data.people])
    calibration = recorded(data, rewards, splits, (splits.part == 1) & served)
    exponent = choose_exponent(calibration, prior)
    kind = np.ones(len(data.rows), dtype=bool) if as_served is None else as_served
    told_about = recorded(data, rewards, splits, (splits.part == 1) & served, kind)
    certainty_scale = choose_certainty_scale(told_about, prior, exponent)
    test = recorded(data, rewards, splits, (splits.part == 2) & served)
    told_to = recorded(data, rewards, splits, (splits.part == 2) & served, kind)
    return FittedBasis(
        heads=heads,
        offset=-turn.matrix @ turn.centre,
        axes=axes,
        correlations=correlations,
        prior=prior,
        exponent=exponent,
        certainty_scale=certainty_scale,
        certainties=check_certainty(told_to, prior, exponent, certainty_scale),
        personal=score([replay(person, prior, exponent) for person in test], rng),
        swapped=score(swapped(test, prior, exponent), rng),
        others=_score_others(data, rewards, splits, use, ~served, rng),
    )


def _prior(data: ComparisonData, rewards: Float64[np.ndarray, "rows basis"], use: Bool[np.ndarray, " n"]) -> Posterior:
    differences = rewards[data.first[use]] - rewards[data.second[use]]
    chosen = np.isin(data.people[use], np.unique(data.people[use])[:MOST_FOR_PRIOR])
    return fit_population(differences[chosen], data.labels[use][chosen], data.people[use][chosen])


def _score_others(
    data: ComparisonData,
    rewards: Float64[np.ndarray, "rows basis"],
    splits: Splits,
    use: Bool[np.ndarray, " n"],
    others: Bool[np.ndarray, " people"],
    rng: np.random.Generator,
) -> list[ReplayScores]:
    if not others.any():
        return []
    prior = _prior(data, rewards, use & others[data.people])
    exponent = choose_exponent(recorded(data, rewards, splits, (splits.part == 1) & others), prior)
    people = recorded(data, rewards, splits, (splits.part == 2) & others)
    return score([replay(person, prior, exponent) for person in people], rng)


def recorded(
    data: ComparisonData,
    rewards: Float64[np.ndarray, "rows basis"],
    splits: Splits,
    members: Bool[np.ndarray, " people"],
    kind: Bool[np.ndarray, " rows"] | None = None,
) -> list[RecordedPerson]:
    """Up to ``MOST_REPLAYED`` members: what may be asked (training rows) and what is predicted (held-out rows).

    Only rows of ``kind``, if given, are predicted.
    """
    differences = rewards[data.first] - rewards[data.second]
    predictable = splits.held_out if kind is None else splits.held_out & kind
    outside = predictable[data.first] & predictable[data.second]
    inside = ~splits.held_out[data.first] & ~splits.held_out[data.second]
    people = []
    for person in np.flatnonzero(members):
        mine = data.people == person
        asked, predicted = mine & inside, mine & outside
        if asked.sum() >= 5 and predicted.sum() >= 3:
            people.append(
                RecordedPerson(differences[asked], data.labels[asked], differences[predicted], data.labels[predicted])
            )
    return people[:MOST_REPLAYED]


def choose_exponent(people: Sequence[RecordedPerson], prior: Posterior) -> float:
    """The tempering exponent with the least log-loss over people and numbers of answers, questions active."""
    if not people:
        return 1.0

    def cost(exponent: float) -> float:
        replays = [replay(person, prior, exponent, CALIBRATED_AT) for person in people]
        return float(np.mean([log_loss(p, one.labels) for one in replays for p in one.probabilities.values()]))

    return min(EXPONENTS, key=cost)


def choose_certainty_scale(people: Sequence[RecordedPerson], prior: Posterior, exponent: float) -> float:
    """Realised over stated rescaled accuracy, on what people were never asked, questions active."""
    replays = [replay(person, prior, exponent, CALIBRATED_AT) for person in people]
    stated = [p for one in replays for p in one.probabilities.values()]
    labels = [one.labels for one in replays for _ in one.probabilities]
    if not labels:
        return 1.0
    return max(0.05, fit_certainty_scale(np.concatenate(stated), np.concatenate(labels)))


def check_certainty(
    people: Sequence[RecordedPerson], prior: Posterior, exponent: float, scale: float
) -> list[Certainty]:
    """Told and realised rescaled accuracy of other people than the scale was chosen on."""
    replays = [replay(person, prior, exponent, (0, *CALIBRATED_AT)) for person in people]
    found = []
    for answers in (0, *CALIBRATED_AT):
        pairs = [(one.probabilities[answers], one.labels) for one in replays if answers in one.probabilities]
        if pairs:
            claims, labels = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
            claims = 2.0 * claims - 1.0
            realised = float((np.sign(claims) * (2.0 * labels - 1.0)).mean())
            found.append(Certainty(answers, min(1.0, scale * float(np.abs(claims).mean())), realised))
    return found


def swapped(people: Sequence[RecordedPerson], prior: Posterior, exponent: float) -> list[Replayed]:
    """Control: each person's choices predicted from the answers of the next person."""
    following = [*people[1:], *people[:1]]
    return [
        replay(RecordedPerson(other.asked, other.asked_labels, one.predicted, one.predicted_labels), prior, exponent)
        for one, other in zip(people, following, strict=True)
    ]
