"""Mode auto: which of the measured ways to answer is worth its time. Knows neither people nor engines."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from app.entities import DecodingSpeed, FrontierPoint, SteeringKind

DEFAULT_CANDIDATES = 16
GOOD_ENOUGH = 0.01
"""Share of prompts that the cheapest way may lose against the best one, where no budget was given."""
ALL_THE_SAME = "At temperature 0 all candidates are the same."


@dataclass(frozen=True)
class Circumstances:
    """What a choice depends on: what the engine is able to do and how fast, and what the caller wants.

    At most ``most`` candidates may be drawn, if the caller said so, and ``count`` of them come back. Where they are not
    ``varied``, there is nothing to choose among them.
    """

    able: frozenset[SteeringKind]
    speed: DecodingSpeed | None
    max_tokens: int
    most: int | None = None
    count: int = 1
    guidance: Literal["auto", "token", "block"] = "auto"
    budget_seconds: float | None = None
    varied: bool = True

    def seconds(self, point: FrontierPoint) -> float | None:
        """What an answer of ``max_tokens`` is predicted to take, waiting left out; None where nothing was measured."""
        if self.speed is None:
            return None
        alone = self.count == 1 or point.drop_below == 0.0  # several responses are never stopped early
        cost = (point.cost if alone else point.n) * max(1.0, self.count / point.n)
        return self.speed.seconds(ceil(cost), self.max_tokens)

    def allows(self, point: FrontierPoint) -> bool:
        """Whether the engine can answer in this way, the caller wants it, and it is not in vain."""
        kinds = {point.guidance} - {"none"} | ({"early_stopping"} if point.drop_below > 0 else set())
        wanted = self.guidance == "auto" or point.guidance in {"none", self.guidance}
        most = self.most if self.varied else 1
        return kinds <= self.able and wanted and (most is None or point.n <= most)


@dataclass(frozen=True)
class Choice:
    """A way to answer, and why it is taken in one sentence."""

    point: FrontierPoint
    reason: str


def choose_point(frontier: Sequence[FrontierPoint], given: Circumstances) -> Choice:
    """The way with the largest win rate that fits the budget, the cheaper one among equals.

    Without a budget, or while the engine's speed is unknown, the cheapest one within ``GOOD_ENOUGH`` of the best. Where
    none fits, the fastest. Where nothing was measured that the engine can do, best of n: with a budget and a known
    speed as many candidates as fit.
    """
    points = [point for point in frontier if given.allows(point)]
    budget = given.budget_seconds if given.speed is not None else None
    if not points:
        choice = _unmeasured(given, budget)
    else:
        choice = _good_enough(points) if budget is None else _within(points, given, budget)
    reasons = [choice.reason]
    if given.budget_seconds is not None and budget is None:
        reasons.append(
            f"The engine's speed is not known yet, so the budget of {_ms(given.budget_seconds)} may not hold."
        )
    if not given.varied:
        reasons.append(ALL_THE_SAME)
    return Choice(choice.point, " ".join(reasons))


def _good_enough(points: Sequence[FrontierPoint]) -> Choice:
    """The cheapest of ``points`` that is hardly worse than the best."""
    best = max(point.win_rate for point in points)
    chosen = min((point for point in points if point.win_rate >= best - GOOD_ENOUGH), key=lambda point: point.cost)
    return Choice(chosen, f"{chosen.name}: the cheapest within {GOOD_ENOUGH:g} of the best win rate, {best:.2f}.")


def _within(points: Sequence[FrontierPoint], given: Circumstances, budget: float) -> Choice:
    """The best of ``points`` in ``budget`` seconds; the engine's speed is known."""
    timed = [(given.seconds(point) or 0.0, point) for point in points]
    fitting = [(seconds, point) for seconds, point in timed if seconds <= budget]
    if not fitting:
        seconds, fastest = min(timed, key=lambda one: (one[0], -one[1].win_rate))
        return Choice(
            fastest, f"{fastest.name}: the fastest, predicted {_ms(seconds)}, more than the budget of {_ms(budget)}."
        )
    seconds, best = max(fitting, key=lambda one: (one[1].win_rate, -one[1].cost))
    return Choice(
        best, f"{best.name}: win rate {best.win_rate:.2f}, predicted {_ms(seconds)} of a budget of {_ms(budget)}."
    )


def _unmeasured(given: Circumstances, budget: float | None) -> Choice:
    """Best of as many candidates as the caller allows and as fit in ``budget`` seconds, if there is one."""
    n = max(given.most or DEFAULT_CANDIDATES, given.count) if given.varied else given.count
    if budget is None:
        return Choice(_best_of(n), f"Best of {n}: no other way was measured for this engine.")
    while n > given.count and (given.seconds(_best_of(n)) or 0.0) > budget:
        n -= 1
    seconds = given.seconds(_best_of(n)) or 0.0
    if seconds > budget:
        why = f"the least there is, predicted {_ms(seconds)}, more than the budget of {_ms(budget)}"
    else:
        why = f"predicted {_ms(seconds)} of a budget of {_ms(budget)}"
    return Choice(_best_of(n), f"Best of {n}: {why}.")


def _best_of(n: int) -> FrontierPoint:
    """Best of n where nobody measured it: the best of n + 1 answers drawn alike is among the n with n / (n + 1)."""
    return FrontierPoint(f"best of {n}", "best_of_n", n, "none", 0.0, float(n), n / (n + 1))


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms"
