"""Every reason to stop, and what is still to come."""

import pytest

from app.preferences.stopping import expected_remaining, stop_reason


def reason(
    *, answered: int = 3, certainty: float = 0.4, target: float | None = None, bits: float | None = 0.3
) -> str | None:
    return stop_reason(
        answered=answered,
        max_questions=10,
        certainty=certainty,
        target_certainty=target,
        best_information_bits=bits,
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
