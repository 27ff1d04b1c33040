from dataclasses import replace

import numpy as np
import pytest

from app.preferences.logistic import sigmoid
from app.training.methods.common_spread import _closest, choose_common_spread
from app.training.methods.data import TrainingData
from app.training.methods.groups import connected
from app.training.methods.pref import Pref
from app.training.methods.uniform import Uniform
from app.training.methods.variational import Variational


def world(texts=120, hidden=80, told=3, answers=4000, strength=1.0, seed=0):
    """Few texts with many features, of which few matter, and many comparisons of them."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((texts, hidden))
    rewards = strength * features[:, :told].sum(axis=1)
    first, second = rng.integers(0, texts, (2, answers))
    second = np.where(first == second, (first + 1) % texts, second)
    labels = (rng.random(answers) < sigmoid(rewards[first] - rewards[second])).astype(np.float64)
    return TrainingData(features, first, second, np.arange(answers) % 40, labels)


def held_out_accuracy(data, method, seed=1):
    """Of comparisons of new texts, decided by the features that matter."""
    fresh = np.random.default_rng(seed).standard_normal((400, data.hidden))
    rewards = fresh @ method.fit(data, np.random.default_rng(0)).heads[0]
    truth = fresh[:, :3].sum(axis=1)
    return float(((rewards[::2] > rewards[1::2]) == (truth[::2] > truth[1::2])).mean())


def test_rows_that_comparisons_chain_together_are_one_group():
    first, second = np.array([(0, 1), (3, 2), (1, 3), (4, 5)]).T
    assert connected(first, second, 7).tolist() == [0, 0, 0, 0, 4, 4, 6]


def test_where_texts_are_few_a_tighter_reward_is_chosen_than_by_default():
    chosen = choose_common_spread(world(strength=0.1), Variational(1), np.random.default_rng(0))
    assert chosen.common_spread < Variational(1).common_spread


def test_the_chosen_spread_predicts_new_texts_no_worse():
    data = world(strength=0.3)
    chosen = choose_common_spread(data, Uniform(), np.random.default_rng(0))
    assert held_out_accuracy(data, chosen) >= held_out_accuracy(data, Uniform())


def test_factors_keep_their_own_spread():
    chosen = choose_common_spread(world(), Variational(3), np.random.default_rng(0))
    assert chosen.spread == Variational(3).spread


def test_where_answers_cannot_tell_the_default_is_kept():
    data = world(answers=300)
    noise = replace(data, labels=np.full(len(data), 0.5))
    chosen = choose_common_spread(noise, Variational(3), np.random.default_rng(0))
    assert chosen == Variational(3)


def test_of_groups_the_closest_within_a_standard_error_is_taken():
    losses = np.array([[1.0, 3.0, 1.5], [1.0, 2.0, 2.0], [5.0, 5.0, 5.0]])
    assert _closest(losses, np.ones(3)) == 0


def test_a_candidate_that_is_worse_in_every_group_is_not_taken():
    losses = np.array([[2.0, 3.0, 3.1], [1.0, 2.0, 2.0]])
    assert _closest(losses, np.ones(3)) == 1


@pytest.mark.parametrize("method", [Uniform(), Variational(2)])
def test_items_without_features_keep_their_method(method):
    data = world()
    items = TrainingData(None, data.first, data.second, data.people, data.labels, rows=data.rows)
    assert choose_common_spread(items, method, np.random.default_rng(0)) is method


def test_a_method_without_a_common_spread_is_returned_as_it_is():
    method = Pref(2)
    assert choose_common_spread(world(), method, np.random.default_rng(0)) is method
