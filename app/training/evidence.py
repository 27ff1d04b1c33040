"""What a fitted basis is worth to people it has not seen, with the controls that would show a leak.

Everything here is about test people, on texts that nobody was asked about.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.preferences.answers import ResponseModel
from app.preferences.belief import Prior
from app.preferences.certainty import CertaintyCurve
from app.training.replay import COUNTS, RecordedPerson, Replayed, ReplayScores, replay, score


@dataclass(frozen=True)
class Certainty:
    """After ``answers`` answers: what people were told of how well they are known, and what came true."""

    answers: int
    told: float
    realised: float


@dataclass(frozen=True)
class Evidence:
    """Scores of test people by number of answers: ``personal``, and two controls.

    ``swapped``: each person predicted from the answers of another; ``shuffled``: from their own answers in random
    order. Both may not do better than the population, which is the row of no answers.
    """

    personal: list[ReplayScores]
    swapped: list[ReplayScores]
    shuffled: list[ReplayScores]

    @classmethod
    def of(
        cls, people: Sequence[RecordedPerson], prior: Prior, response: ResponseModel, rng: np.random.Generator
    ) -> "Evidence":
        """Replay every person three times, with questions chosen actively."""
        replays = [
            [replay(person, prior, response) for person in group]
            for group in (people, swapped(people), shuffled(people, rng))
        ]
        return cls(*(score(group, rng) for group in replays))


def swapped(people: Sequence[RecordedPerson]) -> list[RecordedPerson]:
    """Control: each person with the questions, answers and words of the next person."""
    following = [*people[1:], *people[:1]]
    return [
        replace(one, asked=other.asked, asked_labels=other.asked_labels, about=other.about)
        for one, other in zip(people, following, strict=True)
    ]


def shuffled(people: Sequence[RecordedPerson], rng: np.random.Generator) -> list[RecordedPerson]:
    """Control: each person's recorded answers in random order, and no words."""
    return [replace(one, asked_labels=rng.permutation(one.asked_labels), about=None) for one in people]


def check_certainty(
    people: Sequence[RecordedPerson],
    prior: Prior,
    response: ResponseModel,
    curve: CertaintyCurve,
    counts: Sequence[int] = COUNTS,
) -> list[Certainty]:
    """Told and realised rescaled accuracy of other people than the curve was fitted on, by number of answers."""
    replays: list[Replayed] = [replay(person, prior, response, counts) for person in people]
    found = []
    for answers in counts:
        known = [one for one in replays if answers in one.certainties]
        if known:
            told = [curve(one.certainties[answers]) for one in known]
            realised = [
                float((np.sign(2.0 * one.probabilities[answers] - 1.0) * (2.0 * one.labels - 1.0)).mean())
                for one in known
            ]
            found.append(Certainty(answers, float(np.mean(told)), float(np.mean(realised))))
    return found
