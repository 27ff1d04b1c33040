"""Replays questionnaires against recorded answers: what is known of a person after t questions.

Each held-out person has comparisons to ask about and others, on texts never asked about, to be
predicted. Questions are chosen as the service chooses them; the answer is the recorded one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Belief, Prior
from app.preferences.certainty import certainty
from app.preferences.likelihood import log_likelihood
from app.preferences.logistic import PREDICTION_NODES, gauss_hermite, preference_probability
from app.preferences.population import log_loss
from app.preferences.selection import Rule, expected_information_bits, select_pair
from app.training.metrics import Interval, accuracy, auc, calibration_error, interval

COUNTS = (0, 1, 3, 5, 10, 20)
ROWS_PER_CHUNK = 256
"""Predicted pairs that are spread over a belief's components and the nodes of a quadrature at a time."""


@dataclass(frozen=True)
class RecordedPerson:
    """Basis reward differences and labels of a person's comparisons, to ask about and to predict."""

    asked: Float64[np.ndarray, "questions basis"]
    asked_labels: Float64[np.ndarray, " questions"]
    predicted: Float64[np.ndarray, "tests basis"]
    predicted_labels: Float64[np.ndarray, " tests"]
    about: str | None = None

    def scaled(self, factor: float) -> "RecordedPerson":
        """The same person with all basis rewards multiplied by ``factor``."""
        return replace(self, asked=factor * self.asked, predicted=factor * self.predicted)


@dataclass(frozen=True)
class Replayed:
    """Predictions (tests,) of one person's choices after each number of answers, with the labels.

    ``questions`` are the indices of the asked pairs, in order; ``certainties`` are what ``certainty`` claims of the
    tests after each number of answers, before any curve, where there are tests.
    """

    probabilities: dict[int, Float64[np.ndarray, " tests"]]
    labels: Float64[np.ndarray, " tests"]
    questions: tuple[int, ...] = ()
    certainties: dict[int, float] = field(default_factory=dict)


def replay(
    person: RecordedPerson,
    prior: Prior,
    response: ResponseModel,
    counts: Sequence[int] = COUNTS,
    *,
    rule: Rule | None = expected_information_bits,
) -> Replayed:
    """Ask one person's recorded questions, those that ``rule`` gains most from first, and predict the others.

    Without a rule the questions come in the order in which they were recorded. A person with fewer
    recorded questions than a count has no prediction for it.
    """
    prior = prior.told(person.about)
    allowed = np.ones(len(person.asked), dtype=bool)
    questions: list[int] = []
    belief = prior.population
    probabilities, certainties = {}, {}
    for answered in range(max(counts) + 1):
        if answered in counts:
            probabilities[answered] = choice_probability(belief, person.predicted, response)
            if len(person.predicted):
                certainties[answered] = certainty(belief, person.predicted)
        if answered == max(counts) or not allowed.any():
            break
        selection = select_pair(belief, person.asked, allowed, rule=rule) if rule else None
        index = selection.index if selection else int(np.flatnonzero(allowed)[0])
        allowed[index] = False
        questions.append(index)
        belief = believe(person, prior, response, questions)
    return Replayed(probabilities, person.predicted_labels, tuple(questions), certainties)


def replay_questions(
    person: RecordedPerson, prior: Prior, response: ResponseModel, questions: Sequence[int], counts: Sequence[int]
) -> Replayed:
    """As ``replay``, with the questions given in order instead of chosen."""
    prior = prior.told(person.about)
    reached = [count for count in counts if count <= len(questions)]
    beliefs = {count: believe(person, prior, response, questions[:count]) for count in reached}
    probabilities = {count: choice_probability(one, person.predicted, response) for count, one in beliefs.items()}
    return Replayed(probabilities, person.predicted_labels, tuple(questions))


def believe(person: RecordedPerson, prior: Prior, response: ResponseModel, questions: Sequence[int]) -> Belief:
    """Belief about a person after their recorded answers to ``questions``."""
    chosen = list(questions)
    belief, _ = prior.condition(Answers.of(person.asked[chosen], person.asked_labels[chosen]), response)
    return belief


def choice_probability(
    belief: Belief, differences: Float64[np.ndarray, "pairs basis"], response: ResponseModel
) -> Float64[np.ndarray, " pairs"]:
    """Probability that the person answers with the first candidate, given that they do not answer with a tie.

    ``P(first) / (P(first) + P(second))`` under the response model, its lapses and ties included, with the coefficients
    integrated out of either probability.
    """
    if response.tie_strength is None:
        preferred = preference_probability(belief, differences)
        return np.asarray(response.lapse / 2.0 + (1.0 - response.lapse) * preferred, dtype=np.float64)
    nodes, node_weights = gauss_hermite(PREDICTION_NODES)
    chosen = np.empty(len(differences))
    for start in range(0, len(differences), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        margins = belief.margins(differences[rows])
        points = margins.means[:, :, None] + np.sqrt(margins.variances[:, :, None]) * nodes
        first, second = (
            np.einsum("rcn,c,n->r", np.exp(_answered(points, side, response)), margins.weights, node_weights)
            for side in (1.0, 0.0)
        )
        chosen[rows] = first / (first + second)
    return chosen


def _answered(
    margins: Float64[np.ndarray, "rows components nodes"], answer: float, response: ResponseModel
) -> Float64[np.ndarray, "rows components nodes"]:
    """Log-probability of one answer at every margin, in nats."""
    return log_likelihood(margins, np.full((len(margins), 1, 1), answer), response)


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
