"""Replays questionnaires against recorded answers: what is known of a person after t questions.

Each held-out person has comparisons to ask about and others, on texts never asked about, to be
predicted. Questions are chosen as the service chooses them; the answer is the recorded one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.logistic import preference_probability
from app.preferences.population import log_loss
from app.preferences.posterior import Posterior, fit_posterior
from app.preferences.selection import select_pair
from app.training.metrics import Interval, accuracy, auc, calibration_error, interval

COUNTS = (0, 1, 3, 5, 10, 20)


@dataclass(frozen=True)
class RecordedPerson:
    """Basis reward differences and labels of a person's comparisons, to ask about and to predict."""

    asked: Float64[np.ndarray, "questions basis"]
    asked_labels: Float64[np.ndarray, " questions"]
    predicted: Float64[np.ndarray, "tests basis"]
    predicted_labels: Float64[np.ndarray, " tests"]


@dataclass(frozen=True)
class Replayed:
    """Predictions (tests,) of one person's choices after each number of answers, with the labels."""

    probabilities: dict[int, Float64[np.ndarray, " tests"]]
    labels: Float64[np.ndarray, " tests"]


def replay(
    person: RecordedPerson, prior: Posterior, exponent: float, counts: Sequence[int] = COUNTS, *, active: bool = True
) -> Replayed:
    """Ask one person's recorded questions, the most informative first, and predict the others.

    With ``active`` false the questions come in the order in which they were recorded. A person with
    fewer recorded questions than a count has no prediction for it.
    """
    allowed = np.ones(len(person.asked), dtype=bool)
    chosen: list[int] = []
    posterior = prior
    probabilities = {}
    for answered in range(max(counts) + 1):
        if answered in counts:
            probabilities[answered] = preference_probability(posterior, person.predicted)
        if not allowed.any():
            break
        selection = select_pair(posterior, person.asked, allowed) if active else None
        index = selection.index if selection else int(np.flatnonzero(allowed)[0])
        allowed[index] = False
        chosen.append(index)
        posterior, _ = fit_posterior(prior, person.asked[chosen], person.asked_labels[chosen], exponent=exponent)
    return Replayed(probabilities, person.predicted_labels)


@dataclass(frozen=True)
class ReplayScores:
    """Scores after one number of answers: means with intervals over people; ``ece`` over all predictions."""

    answers: int
    people: int
    accuracy: Interval
    auc: Interval
    log_loss: Interval
    ece: float


def score(replays: Sequence[Replayed], rng: np.random.Generator) -> list[ReplayScores]:
    """One row a number of answers, over the people who answered that many."""
    rows = []
    for answers in sorted({count for one in replays for count in one.probabilities}):
        present = [one for one in replays if answers in one.probabilities and len(one.labels)]
        pairs = [(one.probabilities[answers], one.labels) for one in present]
        accuracies, aucs, losses = (
            interval(np.array([metric(p, y) for p, y in pairs]), rng) for metric in (accuracy, auc, log_loss)
        )
        predicted, labels = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        ece = calibration_error(predicted, labels)
        rows.append(ReplayScores(answers, len(present), accuracies, aucs, losses, ece))
    return rows


def table(rows: Sequence[ReplayScores]) -> str:
    """The scores as a Markdown table."""
    lines = ["| answers | people | accuracy | AUC | log-loss | ECE |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {row.answers} | {row.people} | {row.accuracy} | {row.auc} | {row.log_loss} | {row.ece:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)
