"""Fits how far answers and certainties can be taken at their word, on people the prior was not fitted on.

Choosing questions actively makes a posterior over-confident, people lapse, and ties say something of
their own: the response model is what predicts held-out people's choices best. The certainty curve then
maps what is claimed of a person to what comes true.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior
from app.preferences.certainty import CertaintyCurve, fit_certainty_curve
from app.preferences.gaussian import Posterior
from app.preferences.population import log_loss
from app.preferences.priors.gaussian import GaussianPrior
from app.training.replay import COUNTS, RecordedPerson, Replayed, replay, replay_questions

SCALES = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2)
TRUSTS = (1.0, 0.5, 0.0)
EXPONENTS = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
LAPSES = (0.0, 0.02, 0.05, 0.1)
TIE_STRENGTHS = tuple(float(strength) for strength in np.geomspace(0.02, 8.0, 40))
CALIBRATED_AT = (1, 3, 5, 10, 20)
MOST_PEOPLE = 120
ROUNDS = 2


def choose_scale(people: Sequence[RecordedPerson], prior: Prior, rng: np.random.Generator) -> float:
    """Factor on basis rewards with the least log-loss of held-out choices, averaged over people and stages.

    Below one where heads were learned from few texts: on texts that they have not seen, rewards then say less than
    on those they were fitted to. To use it, multiply the heads by it and keep the prior.
    """
    chosen = _drawn(people, rng)
    plain = [replay(person, prior, ResponseModel(), CALIBRATED_AT) for person in chosen]
    stages = (0, *CALIBRATED_AT)
    return min(
        SCALES, key=lambda scale: _cost([one.scaled(scale) for one in chosen], plain, prior, ResponseModel(), stages)
    )


def choose_trust(people: Sequence[RecordedPerson], prior: Prior, rng: np.random.Generator) -> float:
    """Share of the population's mean that people who have answered nothing are predicted with best, by log-loss.

    Zero where people have nothing in common: the mean of those that a prior was fitted on then misleads about others.
    """
    chosen = _drawn(people, rng)
    nothing = [Replayed({}, one.predicted_labels) for one in chosen]
    return min(TRUSTS, key=lambda share: _cost(chosen, nothing, trusted(prior, share), ResponseModel(), (0,)))


def trusted(prior: Prior, share: float) -> Prior:
    """A Gaussian prior with ``share`` of its mean; other families, whose shape is tied to their place, as they are."""
    if not isinstance(prior, GaussianPrior):
        return prior
    return GaussianPrior(Posterior(share * prior.population.mean, prior.population.precision))


def choose_response(people: Sequence[RecordedPerson], prior: Prior, rng: np.random.Generator) -> ResponseModel:
    """The response model with the least log-loss of held-out choices, averaged over people and stages.

    Each person's questions are chosen once, actively, with answers taken at their word; every response model then
    sees the same answers. Exponent, ties and lapse are searched in turn, ``ROUNDS`` times. Among equal models the
    simplest wins. At most ``MOST_PEOPLE`` people, drawn by ``rng``, are used; without people nothing is corrected.
    """
    if not people:
        return ResponseModel()
    chosen = _drawn(people, rng)
    plain = [replay(person, prior, ResponseModel(), CALIBRATED_AT) for person in chosen]
    ties = (None, tie_strength(plain)) if any((one.labels == 0.5).any() for one in plain) else (None,)
    costs: dict[ResponseModel, float] = {}

    def cost(response: ResponseModel) -> float:
        if response not in costs:
            costs[response] = _cost(chosen, plain, prior, response)
        return costs[response]

    best = ResponseModel()
    for _ in range(ROUNDS):
        best = min((replace(best, exponent=exponent) for exponent in EXPONENTS[::-1]), key=cost)
        best = min((replace(best, tie_strength=strength) for strength in ties), key=cost)
        best = min((replace(best, lapse=lapse) for lapse in LAPSES), key=cost)
    return best


def tie_strength(replays: Sequence[Replayed]) -> float:
    """Davidson's nu that makes the observed ties most likely, given the margins predicted after the last stage."""
    last = [one.probabilities[max(one.probabilities)] for one in replays]
    probabilities = np.clip(np.concatenate(last), 1e-6, 1.0 - 1e-6)
    tied = np.concatenate([one.labels for one in replays]) == 0.5
    decided = np.sqrt(probabilities / (1.0 - probabilities))
    decided = decided + 1.0 / decided  # exp(m / 2) + exp(-m / 2)

    def cost(strength: float) -> float:
        return float(np.log1p(decided[tied] / strength).sum() + np.log1p(strength / decided[~tied]).sum())

    return min(TIE_STRENGTHS, key=cost)


@dataclass(frozen=True)
class Told:
    """Raw and realised certainty of each person at each stage (M,), with the number of choices behind each."""

    raw: Float64[np.ndarray, " stages"]
    realised: Float64[np.ndarray, " stages"]
    choices: Float64[np.ndarray, " stages"]

    @classmethod
    def of(cls, replays: Sequence[Replayed]) -> "Told":
        """What ``certainty`` claimed, and the rescaled accuracy that came true of the predicted sides."""
        stages = [(one, count) for one in replays for count in one.certainties]
        raw = [one.certainties[count] for one, count in stages]
        realised = [
            float((np.sign(one.probabilities[count] - 0.5) * (2.0 * one.labels - 1.0)).mean()) for one, count in stages
        ]
        return cls(np.array(raw), np.array(realised), np.array([float(len(one.labels)) for one, _ in stages]))


def fit_certainty(people: Sequence[RecordedPerson], prior: Prior, response: ResponseModel) -> CertaintyCurve:
    """The map from raw certainty to realised rescaled accuracy, over people and numbers of answers.

    Raw certainty is about preferences, as ``certainty`` computes it; what lapses and ties take from choices is left to
    the map.
    """
    told = Told.of([replay(person, prior, response, COUNTS) for person in people])
    return fit_certainty_curve(told.raw, told.realised, told.choices)


def _drawn(people: Sequence[RecordedPerson], rng: np.random.Generator) -> list[RecordedPerson]:
    """At most ``MOST_PEOPLE`` of the people, in their order."""
    return [people[i] for i in np.sort(rng.permutation(len(people))[:MOST_PEOPLE])]


def _cost(
    people: Sequence[RecordedPerson],
    plain: Sequence[Replayed],
    prior: Prior,
    response: ResponseModel,
    counts: Sequence[int] = CALIBRATED_AT,
) -> float:
    """Log-loss of held-out choices in nats: mean over stages of a person, then over people."""
    losses = []
    for person, asked in zip(people, plain, strict=True):
        replayed = replay_questions(person, prior, response, asked.questions, counts)
        stages = [log_loss(p, replayed.labels) for p in replayed.probabilities.values() if len(p)]
        losses += [float(np.mean(stages))] if stages else []
    return float(np.mean(losses)) if losses else 0.0
