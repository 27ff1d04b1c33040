"""Every reason to stop, and what is still to come."""

import numpy as np
import pytest

from app.preferences.choice import change_probability
from app.preferences.posterior import Posterior, fit_posterior
from app.preferences.selection import select_pair
from app.preferences.stopping import MINIMUM_CHANGE, expected_remaining, stop_reason
from app.preferences.synthetic import answer, draw_people
from tests.unit.preferences.worlds import unchecked_shapes


def reason(
    *,
    answered: int = 3,
    certainty: float = 0.4,
    target: float | None = None,
    bits: float | None = 0.3,
    change: float | None = None,
) -> str | None:
    return stop_reason(
        answered=answered,
        max_questions=10,
        certainty=certainty,
        target_certainty=target,
        best_information_bits=bits,
        change=change,
    )


def test_a_questionnaire_goes_on_while_questions_are_worth_asking() -> None:
    assert reason() is None


def test_the_last_question_ends_it() -> None:
    assert reason(answered=10) == "max_questions"


def test_reaching_the_target_ends_it() -> None:
    assert reason(certainty=0.6, target=0.6) == "target_certainty"


def test_an_empty_pool_ends_it() -> None:
    assert reason(bits=None) == "pool_exhausted"


def test_questions_that_tell_nothing_end_it() -> None:
    assert reason(bits=0.0199) == "low_information"


def test_a_question_at_the_threshold_is_still_asked() -> None:
    assert reason(bits=0.02) is None


def test_questions_that_change_nothing_end_it() -> None:
    assert reason(change=0.0499) == "low_information"


def test_a_change_at_the_threshold_is_still_worth_a_question() -> None:
    assert reason(change=0.05) is None


def simulate(size: int, spread: float, seed: int, people: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Chance of a change and share of the best reward missed, for each person after 0 to 20 answers."""
    rng = np.random.default_rng(seed)
    population = Posterior(spread * rng.standard_normal(size), np.eye(size) / spread**2)
    pool, sets, fresh = (rng.standard_normal(shape) for shape in ((300, size), (30, 8, size), (300, 8, size)))
    changes, missed = [], []
    for coefficients in draw_people(population, people, rng):
        answers, belief, allowed = answer(coefficients, pool, rng), population, np.ones(300, dtype=np.bool_)
        for _ in range(21):
            changes.append(change_probability(belief, sets))
            rewards = fresh @ coefficients
            served = rewards[np.arange(300), np.argmax(fresh @ belief.mean, axis=1)]
            missed.append((rewards.max(axis=1) - served).mean() / (rewards.max(axis=1) - rewards.mean(axis=1)).mean())
            selection = select_pair(belief, pool, allowed)
            assert selection is not None
            allowed[selection.index] = False
            belief, _ = fit_posterior(population, pool[~allowed], answers[~allowed])
    return np.array(changes).reshape(people, 21), np.array(missed).reshape(people, 21)


@pytest.mark.parametrize(("size", "spread"), [(4, 1.0), (8, 0.35), (8, 1.0), (8, 2.5)])
def test_people_who_would_be_served_better_are_asked_all_twenty_questions(size: int, spread: float) -> None:
    with unchecked_shapes():
        changes, _ = simulate(size, spread, seed=size)
    assert changes.min() >= MINIMUM_CHANGE


def test_people_of_strong_and_simple_taste_are_stopped_when_little_is_missing() -> None:
    with unchecked_shapes():
        changes, missed = simulate(2, 4.0, seed=2)
    stopped = np.argmax(changes < MINIMUM_CHANGE, axis=1)[(changes < MINIMUM_CHANGE).any(axis=1)]
    at_stop = missed[(changes < MINIMUM_CHANGE).any(axis=1), stopped]
    assert len(stopped) >= 3
    assert at_stop.mean() < 0.01


def test_of_several_reasons_the_first_is_named() -> None:
    assert reason(answered=10, certainty=0.9, target=0.6, bits=None) == "max_questions"


def remaining(*, answered: int = 4, certainty: float = 0.4, initial: float = 0.2, target: float | None = None) -> int:
    return expected_remaining(
        answered=answered,
        max_questions=10,
        certainty=certainty,
        initial_certainty=initial,
        target_certainty=target,
    )


@pytest.mark.parametrize(("answered", "left"), [(0, 10), (4, 6), (10, 0), (12, 0)])
def test_without_a_target_all_questions_are_still_to_come(answered: int, left: int) -> None:
    assert remaining(answered=answered) == left


def test_with_a_target_the_pace_so_far_counts() -> None:
    assert remaining(target=0.49) == 2  # 0.05 an answer so far, 0.09 missing


def test_a_target_that_was_reached_leaves_nothing() -> None:
    assert remaining(target=0.4) == 0


def test_a_target_out_of_reach_leaves_all_questions() -> None:
    assert remaining(target=0.95) == 6


@pytest.mark.parametrize("initial", [0.4, 0.5])
def test_no_progress_leaves_all_questions(initial: float) -> None:
    assert remaining(initial=initial, target=0.5) == 6


def test_before_the_first_answer_all_questions_are_still_to_come() -> None:
    assert remaining(answered=0, certainty=0.2, target=0.3) == 10


def test_a_target_missed_by_a_hair_takes_one_more_question() -> None:
    assert remaining(target=0.4 + 1e-12) == 1
