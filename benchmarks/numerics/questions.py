"""What one more question costs: fitting the person anew, and choosing the pair to ask."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.gaussian import Posterior
from app.preferences.logistic import log_sigmoid, sigmoid
from app.preferences.pool_index import PoolIndex
from app.preferences.priors.gaussian import GaussianPrior
from app.preferences.selection import select_pair
from app.preferences.synthetic import answer, draw_people
from benchmarks.baselines.pref import choose_one_by_one, descend, descend_lean
from benchmarks.numerics.measure import Findings, milliseconds, seconds, times

FIT_SIZE = 16
FIT_ANSWERS = (10, 50, 500)
POOLS = ((10_000, 8), (100_000, 16), (1_000_000, 16))
ANSWERS_BEFORE_CHOICE = (0, 10, 20, 40)
QUESTION_POOL = (10_000, 8)
QUESTION_ANSWERS = 10
RESPONSE = ResponseModel()


def standard(size: int) -> Posterior:
    return Posterior(np.zeros(size), np.eye(size))


def refit(prior: Posterior, rows: np.ndarray, answers: np.ndarray) -> Posterior:
    belief, _ = GaussianPrior(prior).condition(Answers.of(rows, answers), RESPONSE)
    return belief


def held_out_loss(
    coefficients: Float64[np.ndarray, " basis"],
    truth: Float64[np.ndarray, " basis"],
    fresh: Float64[np.ndarray, "pairs basis"],
) -> float:
    """Expected log-loss in nats of predicting fresh answers of the true person with point estimates."""
    chance, margins = sigmoid(fresh @ truth), fresh @ coefficients
    return float(-(chance * log_sigmoid(margins) + (1.0 - chance) * log_sigmoid(-margins)).mean())


def compare_fits(rounds: int, rng: np.random.Generator) -> Findings:
    """Fit of one person from several numbers of answers, against the published descent and a lean rewriting of it."""
    prior, found = standard(FIT_SIZE), Findings()
    fresh = rng.standard_normal((500, FIT_SIZE))
    for count in FIT_ANSWERS:
        cost: dict[str, list[float]] = {"ours": [], "published": [], "lean": []}
        losses = []
        for truth in draw_people(prior, rounds, rng):
            rows = rng.standard_normal((count, FIT_SIZE))
            answers = answer(truth, rows, rng)
            cost["ours"].append(seconds(20, refit, prior, rows, answers))
            cost["published"].append(seconds(1, descend, rows, answers, rng))
            cost["lean"].append(seconds(1, descend_lean, rows, answers, rng))
            estimates = refit(prior, rows, answers).mean, descend_lean(rows, answers, rng)
            losses.append([held_out_loss(one, truth, fresh) for one in estimates])
        name = f"refit_{count}_answers"
        found |= Findings(
            {f"{name}_times_faster_than_{other}": times(cost[other], cost["ours"]) for other in ("published", "lean")},
            {name: {f"{who}_milliseconds": milliseconds(taken) for who, taken in cost.items()}}
            | {f"{name}_held_out_log_loss": dict(zip(("ours", "descent"), np.mean(losses, axis=0), strict=True))},
        )
    return found


def compare_choices(rounds: int, rng: np.random.Generator) -> Findings:
    """Choice from pools of several sizes, against one pass over the pool's bytes."""
    found = Findings()
    for pairs, size in POOLS:
        prior, differences = standard(size), rng.standard_normal((pairs, size))
        index = PoolIndex.of(differences, prior)
        for count in ANSWERS_BEFORE_CHOICE:
            choosing, scanning, passing = [], [], []
            for truth in draw_people(prior, rounds, rng):
                belief, allowed = asked_by_us(index, prior, truth, count, rng)
                choosing.append(seconds(3, index.select, belief, allowed))
                scanning.append(seconds(1, select_pair, belief, differences, allowed))
                passing.append(min(seconds(1, differences.sum) for _ in range(5)))
            name = f"choice_{pairs}x{size}_after_{count}"
            found |= Findings(
                {f"{name}_over_one_pass": times(choosing, passing)},
                {name: {"milliseconds": milliseconds(choosing), "without_index_milliseconds": milliseconds(scanning)}},
            )
        found |= Findings({}, {f"pass_{pairs}x{size}_milliseconds": 1e3 * min(passing)})
    return found


def asked_by_us(
    index: PoolIndex, prior: Posterior, truth: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[Posterior, np.ndarray]:
    """Belief after ``count`` answers to the most informative questions, and what may still be asked."""
    allowed = np.ones(len(index.differences), dtype=np.bool_)
    belief, asked, answers = prior, np.empty((0, prior.size)), np.empty(0)
    for _ in range(count):
        selection = index.select(belief, allowed)
        if selection is None:
            break
        allowed[selection.index] = False
        row = index.differences[[selection.index]]
        asked, answers = np.concatenate([asked, row]), np.concatenate([answers, answer(truth, row, rng)])
        belief = refit(prior, asked, answers)
    return belief, allowed


def compare_questions(rounds: int, rng: np.random.Generator) -> Findings:
    """Everything between an answer and the next question: fit and choice, against the published two."""
    pairs, size = QUESTION_POOL
    prior, differences = standard(size), rng.standard_normal((pairs, size))
    index, allowed = PoolIndex.of(differences, prior), np.ones(pairs, dtype=np.bool_)
    ours, theirs = [], {"published": list[float](), "lean": list[float]()}

    def our_question(rows: np.ndarray, answers: np.ndarray) -> object:
        return index.select(refit(prior, rows, answers), allowed)

    def their_question(fit: Callable[..., np.ndarray], rows: np.ndarray, answers: np.ndarray) -> object:
        return choose_one_by_one(fit(rows, answers, rng), rows, differences)

    for truth in draw_people(prior, rounds, rng):
        rows = rng.standard_normal((QUESTION_ANSWERS, size))
        answers = answer(truth, rows, rng)
        ours.append(seconds(20, our_question, rows, answers))
        theirs["published"].append(seconds(1, their_question, descend, rows, answers))
        theirs["lean"].append(seconds(1, their_question, descend_lean, rows, answers))
    return Findings(
        {f"question_{pairs}x{size}_times_faster_than_{name}": times(taken, ours) for name, taken in theirs.items()},
        {
            f"question_{pairs}x{size}_milliseconds": {"ours": milliseconds(ours)}
            | {name: milliseconds(taken) for name, taken in theirs.items()}
        },
    )
