"""What was measured, as figures with intervals over people; what is meant to be reached; points for mode auto."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.entities import FrontierPoint
from app.training.frontier.arms import BASELINE, BEST, BOTH, EARLY, TOKEN, Arm, Cell
from app.training.frontier.measure import CellResult, Measured
from app.training.metrics import Interval, interval

ENOUGH_REWARD = 0.99
"""Share of best of 16's gain in reward that counts as reaching it."""
_DRAWS = 2000


@dataclass(frozen=True)
class Fluency:
    """How the texts of a cell read: mean log-probability a token under the base model, share of repeated 4-grams."""

    log_probability: float
    repetition: float


@dataclass(frozen=True)
class Row:
    """The figures of one cell.

    ``cost`` counts generated tokens for each token of a plain answer. ``reward`` is the gain over a plain answer under
    the model's own coefficients, for each unit that best of 16 gains; ``over_baseline`` the win rate above best of
    16's, person by person. ``seconds`` is the processor time of a request alone in the engine.
    """

    cell: Cell
    win_rate: Interval
    over_baseline: Interval
    reward: Interval
    generated: float
    cost: float
    length: float
    seconds: float
    fluency: Fluency


@dataclass(frozen=True)
class Target:
    """Something to reach: by which cell it is reached, or which comes nearest, and that cell's figures in words."""

    aim: str
    reached: bool
    by: str
    found: str


def rows(measured: Measured, fluency: Mapping[str, Fluency]) -> list[Row]:
    """One row a cell, in the order measured; all intervals resample the same people."""
    baseline = measured.cells[BASELINE.name]
    plain = float(np.mean(measured.plain_tokens))
    return [_row(one, baseline, plain, fluency[name]) for name, one in measured.cells.items()]


def targets(found: Sequence[Row]) -> list[Target]:
    """What the engine is meant to reach, as far as the cells that it needs were measured."""
    by_name = {row.cell.name: row for row in found}
    budget, best_8 = 0.6 * by_name[BASELINE.name].generated, by_name.get(BEST[8].name)
    early, token, both = (_measured(by_name, arms) for arms in (EARLY, tuple(TOKEN.values()), tuple(BOTH.values())))
    judged = []
    if early:
        best = max(early, key=lambda row: (row.generated <= budget, row.reward.mean))
        judged.append(
            Target(
                f"early stopping has {ENOUGH_REWARD:.0%} of best of 16's reward with at most 60 % of its tokens",
                best.reward.mean >= ENOUGH_REWARD and best.generated <= budget,
                best.cell.name,
                f"{best.reward} of the reward with {0.6 * best.generated / budget:.0%} of the tokens",
            )
        )
    if token and best_8:
        best = max(token, key=lambda row: (row.cost <= 1.5, row.win_rate.mean))
        judged.append(
            Target(
                "token-level guidance has best of 8's win rate at no more than 1.5 plain answers",
                best.win_rate.mean >= best_8.win_rate.mean and best.cost <= 1.5,
                best.cell.name,
                f"{best.win_rate} at {best.cost:.2f} against {best_8.win_rate}",
            )
        )
    if both:
        best = max(both, key=lambda row: row.over_baseline.mean)
        judged.append(
            Target(
                "token-level guidance with best of 4 beats best of 16",
                best.over_baseline.low > 0,
                best.cell.name,
                f"{best.over_baseline} above best of 16",
            )
        )
    return judged


def points(found: Sequence[Row]) -> list[FrontierPoint]:
    """What mode auto chooses among: every way to answer that it can ask for, from people's own answers."""
    return [
        FrontierPoint(
            name=row.cell.arm.name,
            mode=row.cell.arm.mode,
            n=row.cell.arm.n,
            guidance=row.cell.arm.guidance,
            drop_below=row.cell.arm.drop_below,
            cost=round(row.cost, 4),
            win_rate=round(row.win_rate.mean, 4),
        )
        for row in found
        if row.cell.known == "answers" and row.cell.arm.servable
    ]


def _measured(by_name: Mapping[str, Row], arms: Sequence[Arm]) -> list[Row]:
    return [by_name[arm.name] for arm in arms if arm.name in by_name]


def _row(one: CellResult, baseline: CellResult, plain: float, fluency: Fluency) -> Row:
    wins, gained = np.array(one.wins), np.array(one.rewards)
    generated = float(np.mean(one.generated))
    return Row(
        cell=one.cell,
        win_rate=interval(wins, np.random.default_rng(0)),
        over_baseline=interval(wins - np.array(baseline.wins), np.random.default_rng(0)),
        reward=_ratio(gained, np.array(baseline.rewards)),
        generated=generated,
        cost=generated / plain,
        length=float(np.mean(one.lengths)),
        seconds=float(np.mean(one.seconds)),
        fluency=fluency,
    )


def _ratio(gained: Float64[np.ndarray, " people"], whole: Float64[np.ndarray, " people"]) -> Interval:
    """Ratio of two means over people, with its 95 % interval over them."""
    chosen = np.random.default_rng(0).integers(0, len(gained), (_DRAWS, len(gained)))
    low, high = np.quantile(gained[chosen].mean(axis=1) / whole[chosen].mean(axis=1), [0.025, 0.975])
    return Interval(float(gained.mean() / whole.mean()), float(low), float(high))
