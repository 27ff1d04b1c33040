"""What learning a basis costs: ours against the published joint fit, on the same simulated people."""

import numpy as np
import torch

from app.preferences.logistic import sigmoid
from app.training.methods.data import BasisMethod, TrainingData
from app.training.methods.pref import Pref
from app.training.methods.variational import Variational
from benchmarks.baselines.lore import ITERATIONS, fit_lore, lore_margins
from benchmarks.numerics.measure import Findings, seconds, summary

COMPARISONS, HELD_OUT, HIDDEN = 65_536, 16_384, 384
PEOPLE, TEXTS, RANK = 512, 20_000, 8
OURS: tuple[BasisMethod, ...] = (Pref(RANK), Variational(RANK + 1))
"""One reward more for ``variational``: its population's reward has the same coefficient for everyone."""
SAMPLED_ITERATIONS = 3
ROUNDS = 3


def simulate(rng: np.random.Generator) -> tuple[TrainingData, TrainingData]:
    """Comparisons to learn from, and fresh ones of the same people.

    People agree in part on rewards linear in features. Their coefficients have either sign, which is our model and not
    the published one: the accuracies tell that the faster fit is no worse, not which model suits real people.
    """
    features = rng.standard_normal((TEXTS, HIDDEN)).astype(np.float32)
    heads = rng.standard_normal((RANK, HIDDEN)) / np.sqrt(HIDDEN)
    coefficients = rng.standard_normal((PEOPLE, RANK)) + 1.5 * np.eye(RANK)[0]

    def draw(count: int) -> TrainingData:
        first, second = rng.integers(TEXTS, size=(2, count))
        people = np.arange(count) % PEOPLE
        margins = (((features[first] - features[second]) @ heads.T) * coefficients[people]).sum(axis=1)
        return TrainingData(features, first, second, people, (rng.random(count) < sigmoid(margins)).astype(np.float64))

    return draw(COMPARISONS), draw(HELD_OUT)


def rows_of(data: TrainingData) -> np.ndarray:
    """Features of the first text minus those of the second."""
    assert data.features is not None
    return np.asarray(data.features[data.first] - data.features[data.second], dtype=np.float32)


def by_person(data: TrainingData) -> list[torch.Tensor]:
    """Features of the chosen text minus those of the rejected, a tensor a person."""
    signed = rows_of(data) * np.where(data.labels > 0.5, 1.0, -1.0).astype(np.float32)[:, None]
    return [torch.from_numpy(signed[data.people == person]) for person in range(PEOPLE)]


def accuracy(margins: np.ndarray, data: TrainingData) -> float:
    """Share of comparisons whose preferred side has the larger reward."""
    return float(((margins > 0.0) == (data.labels > 0.5)).mean())


def compare_basis_fits(rng: np.random.Generator, *, full: bool) -> Findings:
    """Seconds to fit, and accuracy on fresh comparisons of the same people.

    The published fit is timed over a few of its 1,000 iterations, which all cost the same; its accuracy is measured
    only with ``full``, by running all of them.
    """
    data, fresh = simulate(rng)
    people = by_person(data)
    ours: dict[str, list[float]] = {method.name: [] for method in OURS}
    an_iteration = []
    for _ in range(ROUNDS):
        for method in OURS:
            ours[method.name].append(seconds(1, method.fit, data, np.random.default_rng(0)))
        an_iteration.append(
            seconds(1, lambda: fit_lore(people, RANK, 0, iterations=SAMPLED_ITERATIONS)) / SAMPLED_ITERATIONS
        )
    theirs = [ITERATIONS * cost for cost in an_iteration]
    figures: dict[str, object] = {
        "comparisons": COMPARISONS,
        "hidden": HIDDEN,
        "people": PEOPLE,
        "published_seconds_extrapolated": summary(theirs),
    }
    ratios = {}
    for method in OURS:
        learned = method.fit(data, np.random.default_rng(0))
        margins = ((rows_of(fresh) @ learned.heads.T) * learned.coefficients[fresh.people]).sum(axis=1)
        times = ours[method.name]
        figures |= {f"{method.name}_seconds": summary(times), f"{method.name}_accuracy": accuracy(margins, fresh)}
        ratios[f"basis_{method.name}_times_faster_than_published"] = summary(
            [other / own for other, own in zip(theirs, times, strict=True)]
        )
    if full:
        directions, logits = fit_lore(people, RANK, 0)
        figures["published_accuracy"] = accuracy(lore_margins(directions, logits, rows_of(fresh), fresh.people), fresh)
    return Findings(ratios, {"basis": figures})
