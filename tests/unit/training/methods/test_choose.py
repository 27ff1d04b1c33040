import numpy as np
import pytest

from app.training.methods import Pref, Uniform
from app.training.methods.choose import SPREADS, choose_method, choose_rank, choose_spread


def test_the_true_rank_is_found(world):
    rank, losses = choose_rank(world.data, Pref(1), (1, 3, 6), np.random.default_rng(0))
    assert rank == 3
    assert losses[3] < losses[1]


def test_ranks_that_the_data_cannot_carry_are_left_out(world):
    _, losses = choose_rank(world.data, Pref(1), (2, 40), np.random.default_rng(0))
    assert set(losses) == {2}


def test_a_method_of_one_reward_keeps_it(world):
    assert choose_rank(world.data, Uniform(), (1, 3), np.random.default_rng(0)) == (1, {})


def test_of_equal_candidates_the_first_is_taken(world):
    first, second = Pref(2), Pref(2)
    assert choose_method(world.data, [first, second], np.random.default_rng(0)).method is first


def test_the_spread_is_one_of_those_tried(world):
    assert choose_spread(world.data, Pref(3), np.random.default_rng(0)).spread in set(SPREADS)


def test_too_few_people_are_refused(world):
    few = world.data.only(np.arange(world.data.person_count) < 3)
    with pytest.raises(ValueError, match="3 people"):
        choose_rank(few, Pref(1), (1,), np.random.default_rng(0))
