from dataclasses import replace

import numpy as np
import pytest

from app.preferences.logistic import sigmoid
from app.training.methods import Pref, TrainingData, Uniform
from app.training.methods.choose import WIDER, _draw_trials, choose_method, choose_rank, choose_spread

PAIRS, PEOPLE, HIDDEN = 40, 40, 30


@pytest.fixture(scope="module")
def shared():
    """Everyone compares the same few pairs of texts, and likes the first feature more or less."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2 * PAIRS, HIDDEN))
    people, pairs = np.repeat(np.arange(PEOPLE), PAIRS), np.tile(np.arange(PAIRS), PEOPLE)
    tastes = 1.5 * rng.standard_normal(PEOPLE)
    margins = tastes[people] * (features[2 * pairs, 0] - features[2 * pairs + 1, 0])
    labels = (rng.random(len(margins)) < sigmoid(margins)).astype(np.float64)
    return TrainingData(features, 2 * pairs, 2 * pairs + 1, people, labels)


def texts(data, kept=slice(None)):
    return set(data.first[kept]) | set(data.second[kept])


def test_held_out_people_are_predicted_on_texts_that_were_not_learned_from(shared):
    for trial in _draw_trials(shared, np.random.default_rng(0)):
        assert not texts(trial.train) & texts(trial.held, ~trial.asked)


def test_held_out_people_are_asked_about_texts_that_were_learned_from(shared):
    for trial in _draw_trials(shared, np.random.default_rng(0)):
        assert texts(trial.held, trial.asked) <= texts(trial.train)


def test_few_people_or_texts_are_held_out_several_times(shared):
    assert len(_draw_trials(shared, np.random.default_rng(0))) == 3


def test_heads_that_memorise_texts_are_not_chosen(shared):
    tight, wide = (Pref(2, spread=spread, iterations=20) for spread in (0.5, 20.0))
    assert choose_method(shared, [wide, tight], np.random.default_rng(0)).method is tight


def test_items_without_features_are_never_new(shared):
    items = replace(shared, features=None, rows=2 * PAIRS)
    for trial in _draw_trials(items, np.random.default_rng(0)):
        assert texts(trial.held, ~trial.asked) <= texts(trial.train)


def test_the_true_rank_is_found(world):
    rank, losses = choose_rank(world.data, Pref(1, iterations=20), (1, 3, 6), np.random.default_rng(0))
    assert rank == 3
    assert losses[3] < losses[1]


def test_ranks_that_the_data_cannot_carry_are_left_out(world):
    _, losses = choose_rank(world.data, Pref(1, iterations=10), (2, 40), np.random.default_rng(0))
    assert set(losses) == {2}


def test_a_method_of_one_reward_keeps_it(world):
    assert choose_rank(world.data, Uniform(), (1, 3), np.random.default_rng(0)) == (1, {})


def test_of_equal_candidates_the_first_is_taken(world):
    first, second = Pref(2, iterations=10), Pref(2, iterations=10)
    assert choose_method(world.data, [first, second], np.random.default_rng(0)).method is first


def test_the_spread_is_one_of_those_tried(world):
    method = Pref(3, spread=0.4, iterations=10)
    chosen = choose_spread(world.data, method, np.random.default_rng(0))
    assert chosen.spread in {times * method.spread for times in WIDER}


def test_noisy_answers_keep_the_spread(shared):
    method = Pref(2, iterations=20)
    assert choose_spread(shared, method, np.random.default_rng(0)) == method


def test_too_few_people_are_refused(world):
    few = world.data.only(np.arange(world.data.person_count) < 3)
    with pytest.raises(ValueError, match="3 people"):
        choose_rank(few, Pref(1), (1,), np.random.default_rng(0))
