"""Mode auto: what is picked among measured ways to answer, for a budget and an engine."""

from dataclasses import replace
from typing import Any

import pytest

from app.entities import DecodingSpeed, FrontierPoint
from app.services.choose_mode import Circumstances, choose_point

OFF = FrontierPoint("off", "off", 1, "none", 0.0, 1.0, 0.50)
TOKEN = FrontierPoint("token", "guided", 1, "token", 0.0, 1.1, 0.64)
FOUR = FrontierPoint("best of 4", "best_of_n", 4, "none", 0.0, 4.0, 0.66)
EARLY = FrontierPoint("best of 16, early", "best_of_n", 16, "none", 0.05, 9.0, 0.719)
SIXTEEN = FrontierPoint("best of 16", "best_of_n", 16, "none", 0.0, 16.0, 0.72)
BLOCK = FrontierPoint("block", "guided", 1, "block", 0.0, 4.0, 0.70)
FRONTIER = (OFF, TOKEN, FOUR, EARLY, SIXTEEN, BLOCK)
ABLE: Any = frozenset({"token", "block", "early_stopping"})
SPEED = DecodingSpeed(step=0.001, row=0.001)  # 100 tokens of 1, 4, 9, 16 rows: 200, 500, 1000, 1700 ms
GIVEN = Circumstances(able=ABLE, speed=SPEED, max_tokens=100)


def chosen(frontier: tuple[FrontierPoint, ...] = FRONTIER, **changes: Any) -> FrontierPoint:
    return choose_point(frontier, replace(GIVEN, **changes)).point


def test_without_a_budget_the_cheapest_way_close_to_the_best_is_picked() -> None:
    assert chosen() == EARLY


@pytest.mark.parametrize(
    ("budget", "point"), [(2.0, SIXTEEN), (1.5, EARLY), (0.9, BLOCK), (0.45, TOKEN), (0.25, OFF), (0.1, OFF)]
)
def test_with_a_budget_the_best_way_that_fits_is_picked(budget: float, point: FrontierPoint) -> None:
    assert chosen(budget_seconds=budget) == point


def test_a_way_that_the_engine_cannot_go_is_not_picked() -> None:
    assert chosen(able=frozenset()) == SIXTEEN
    assert chosen(able=frozenset({"token"}), budget_seconds=0.9) == FOUR


def test_a_way_of_guidance_that_was_not_asked_for_is_not_picked() -> None:
    assert chosen(guidance="token", budget_seconds=0.9) == FOUR


def test_no_more_candidates_are_drawn_than_the_caller_allows() -> None:
    assert chosen(most=8) == BLOCK


def test_several_responses_take_the_time_of_as_many_candidates() -> None:
    assert chosen(budget_seconds=0.95) == BLOCK
    assert chosen(count=8, budget_seconds=0.95) == FOUR


def test_several_responses_take_the_time_of_candidates_that_are_not_stopped_early() -> None:
    assert chosen((FOUR, EARLY), budget_seconds=1.5) == EARLY
    assert chosen((FOUR, EARLY), count=2, budget_seconds=1.5) == FOUR


def test_among_equal_win_rates_the_cheaper_one_is_picked() -> None:
    dear = replace(FOUR, name="dear", cost=6.0)
    assert chosen((dear, FOUR), budget_seconds=5.0) == FOUR


def test_without_measurements_sixteen_candidates_are_drawn() -> None:
    assert (chosen(()).mode, chosen(()).n) == ("best_of_n", 16)


def test_without_measurements_as_many_candidates_are_drawn_as_fit_the_budget() -> None:
    assert chosen((), budget_seconds=0.75).n == 6
    assert chosen((), budget_seconds=0.01).n == 1


def test_a_budget_cannot_be_kept_while_the_speed_is_unknown() -> None:
    assert chosen(speed=None, budget_seconds=0.1).n == 16
    assert "not known" in choose_point(FRONTIER, replace(GIVEN, speed=None, budget_seconds=0.1)).reason


def test_the_reason_tells_what_was_predicted_and_what_was_allowed() -> None:
    reason = choose_point(FRONTIER, replace(GIVEN, budget_seconds=0.9)).reason
    assert reason == "block: win rate 0.70, predicted 500 ms of a budget of 900 ms."


def test_the_reason_says_so_where_nothing_fits() -> None:
    reason = choose_point(FRONTIER, replace(GIVEN, budget_seconds=0.1)).reason
    assert reason == "off: the fastest, predicted 200 ms, more than the budget of 100 ms."


def test_a_best_of_one_that_does_not_fit_the_budget_says_so() -> None:
    reason = choose_point((), replace(GIVEN, budget_seconds=0.1)).reason
    assert reason == "Best of 1: the least there is, predicted 200 ms, more than the budget of 100 ms."


def test_while_the_speed_is_unknown_the_choice_is_as_without_a_budget() -> None:
    assert chosen((OFF, TOKEN), speed=None, budget_seconds=0.1) == TOKEN
    reason = choose_point((), replace(GIVEN, speed=None, budget_seconds=0.1)).reason
    assert reason.startswith("Best of 16: ")
    assert reason.endswith("The engine's speed is not known yet, so the budget of 100 ms may not hold.")


def test_nothing_is_chosen_among_candidates_that_are_all_the_same() -> None:
    assert chosen(varied=False) == BLOCK
    assert chosen(varied=False, able=frozenset()) == OFF
    assert chosen((), varied=False).n == 1
    assert chosen((), varied=False, count=2).n == 2
