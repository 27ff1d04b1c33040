"""Several questions at once: what they tell together, and what they do not repeat."""

import numpy as np
import pytest

from app.preferences.batches import select_batch
from app.preferences.posterior import Posterior, precision
from app.preferences.selection import expected_information_bits, select_pair
from tests.unit.preferences.worlds import random_belief, standard_belief, unchecked_shapes


def everything(rows: np.ndarray) -> np.ndarray:
    return np.ones(len(rows), dtype=np.bool_)


def test_a_batch_of_one_is_the_single_question() -> None:
    rng = np.random.default_rng(0)
    belief, rows = random_belief(rng, 4), rng.standard_normal((500, 4))
    selection = select_pair(belief, rows, everything(rows))
    assert selection is not None
    assert select_batch(belief, rows, everything(rows), 1).tolist() == [selection.index]


def test_the_second_question_is_about_something_else() -> None:
    rows = np.array([[2.0, 0.0], [1.8, 0.0], [0.0, 1.5]])
    assert select_batch(standard_belief(2), rows, everything(rows), 2).tolist() == [0, 2]


def test_a_batch_tells_more_together_than_the_best_single_questions() -> None:
    rng = np.random.default_rng(1)
    belief, rows = random_belief(rng, 6, 2.0), rng.standard_normal((400, 6))
    together = select_batch(belief, rows, everything(rows), 8)
    allowed, alone = everything(rows), []
    for _ in range(8):
        selection = select_pair(belief, rows, allowed)
        assert selection is not None
        allowed[selection.index] = False
        alone.append(selection.index)
    volumes = [np.linalg.slogdet(precision(belief, rows[chosen], belief.mean))[1] for chosen in (together, alone)]
    assert volumes[0] > volumes[1] + 0.5  # 1.9 measured


def test_prompts_are_not_repeated_while_others_remain() -> None:
    rng = np.random.default_rng(2)
    rows, prompts = rng.standard_normal((100, 3)), np.arange(100) // 10
    rows[:10] *= 10.0
    chosen = select_batch(standard_belief(3), rows, everything(rows), 10, prompts=prompts)
    assert sorted(prompts[chosen]) == list(range(10))


def test_prompts_are_repeated_when_none_is_left() -> None:
    rows, prompts = np.random.default_rng(3).standard_normal((6, 3)), np.array([0, 0, 0, 1, 1, 1])
    assert sorted(select_batch(standard_belief(3), rows, everything(rows), 6, prompts=prompts)) == list(range(6))


def test_pairs_like_those_asked_before_come_last() -> None:
    rows = np.array([[2.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    chosen = select_batch(standard_belief(2), rows, everything(rows), 3, asked=np.array([[-2.01, 0.0]]))
    assert chosen[-1] == 0


def test_a_repeated_prompt_is_a_lesser_evil_than_a_repeated_question() -> None:
    rows = np.array([[2.0, 0.0], [2.01, 0.0], [0.0, 1.0]])
    chosen = select_batch(standard_belief(2), rows, everything(rows), 2, prompts=np.array([0, 1, 0]))
    assert sorted(chosen) == [1, 2]


def test_only_allowed_pairs_are_chosen_and_each_once() -> None:
    rng = np.random.default_rng(4)
    rows, allowed = rng.standard_normal((50, 3)), rng.random(50) < 0.3
    chosen = select_batch(standard_belief(3), rows, allowed, 50)
    assert sorted(chosen) == np.flatnonzero(allowed).tolist()


def test_no_question_is_an_empty_batch() -> None:
    assert len(select_batch(standard_belief(1), np.ones((2, 1)), np.ones(2, dtype=np.bool_), 0)) == 0


def test_the_belief_and_the_mask_stay_as_they_were() -> None:
    belief, rows = Posterior(np.ones(2), np.eye(2)), np.eye(2)
    allowed = everything(rows)
    select_batch(belief, rows, allowed, 2)
    assert allowed.all()
    assert (belief.precision == np.eye(2)).all()


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="count is -1"):
        select_batch(standard_belief(1), np.ones((2, 1)), np.ones(2, dtype=np.bool_), -1)


def test_prompts_of_another_length_are_refused() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match=r"prompts \(3,\)"):
        select_batch(standard_belief(1), np.ones((2, 1)), np.ones(2, dtype=np.bool_), 1, prompts=np.arange(3))


def test_new_prompts_come_first_then_those_not_in_the_batch_then_any() -> None:
    rows = np.diag([4.0, 3.0, 2.0, 1.5, 1.0])
    prompts, new = np.array([0, 0, 1, 2, 2]), np.array([False, False, False, True, True])
    chosen = select_batch(standard_belief(5), rows, everything(rows), 5, prompts=prompts, new=new)
    assert chosen.tolist() == [3, 0, 2, 1, 4]


def test_a_pair_that_tells_too_little_beside_those_chosen_is_left_out() -> None:
    rows = np.array([[6.0, 0.0], [1.2, 0.0], [0.0, 1.0]])
    assert (expected_information_bits(standard_belief(2), rows) > 0.1).all()
    assert select_batch(standard_belief(2), rows, everything(rows), 3, minimum_bits=0.1).tolist() == [0, 2]


def test_new_prompts_that_tell_too_little_make_way_for_others() -> None:
    rows, new = np.diag([2.0, 0.01]), np.array([False, True])
    assert select_batch(standard_belief(2), rows, everything(rows), 2, new=new, minimum_bits=0.02).tolist() == [0]
