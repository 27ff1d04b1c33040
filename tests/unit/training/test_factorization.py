import numpy as np
import pytest

from app.training.axes import find_turn, name_axes
from app.training.factorization import fit_factorization
from app.training.properties import PROPERTIES

PEOPLE, EACH, ROWS, HIDDEN = 80, 60, 800, 20


@pytest.fixture(scope="module")
def world():
    """Texts with ten hidden properties, seen through 24 noisy features, and people with tastes over them."""
    rng = np.random.default_rng(3)
    properties = rng.standard_normal((ROWS, len(PROPERTIES)))
    features = properties @ rng.standard_normal((len(PROPERTIES), HIDDEN)) + 0.3 * rng.standard_normal((ROWS, HIDDEN))
    tastes = np.array([1.0, -0.6, *[0.0] * 8]) + 0.8 * rng.standard_normal((PEOPLE, len(PROPERTIES)))
    people = np.repeat(np.arange(PEOPLE), EACH)
    first, second = rng.integers(0, ROWS, (2, PEOPLE * EACH))
    margin = ((properties[first] - properties[second]) * tastes[people]).sum(1)
    labels = (rng.random(len(margin)) < 1 / (1 + np.exp(-margin))).astype(float)
    fitted = fit_factorization(features, first, second, people, labels, rank=10, iterations=40)
    return properties, features, tastes, people, first, second, margin, labels, fitted


def test_fitted_rewards_follow_the_true_ones(world):
    _, features, _, people, first, second, margin, _, fitted = world
    rewards = features @ fitted.heads.T
    predicted = ((rewards[first] - rewards[second]) * fitted.coefficients[people]).sum(1)
    assert np.corrcoef(predicted, margin)[0, 1] > 0.85


def test_swapping_the_sides_of_every_pair_changes_nothing(world):
    _, features, _, people, first, second, _, labels, fitted = world
    turned = fit_factorization(features, second, first, people, 1 - labels, rank=10, iterations=40)
    assert turned.loss == pytest.approx(fitted.loss, rel=0.02)


def test_shuffled_labels_leave_nothing_to_learn_beyond_the_training_people(world):
    _, features, _, people, first, second, margin, labels, _ = world
    shuffled = np.random.default_rng(0).permutation(labels)
    fitted = fit_factorization(features, first, second, people, shuffled, rank=10, iterations=40)
    rewards = features @ fitted.heads.T
    predicted = ((rewards[first] - rewards[second]) * fitted.coefficients[people]).sum(1)
    assert abs(np.corrcoef(predicted, margin)[0, 1]) < 0.3


def test_a_turn_keeps_every_reward_difference(world):
    properties, features, *_, fitted = world
    raw = features @ fitted.heads.T
    turn = find_turn(raw, properties)
    turned, coefficients = turn.apply(raw), turn.coefficients(fitted.coefficients)
    before = (raw[:50] - raw[50:100]) @ fitted.coefficients.T
    after = (turned[:50] - turned[50:100]) @ coefficients.T
    np.testing.assert_allclose(after, before, atol=1e-8)


def test_turned_axes_are_uncorrelated_with_unit_spread(world):
    properties, features, *_, fitted = world
    turned = find_turn(features @ fitted.heads.T, properties).apply(features @ fitted.heads.T)
    np.testing.assert_allclose(np.cov(turned.T), np.eye(10), atol=1e-8)


def test_axes_take_the_names_of_the_properties_they_follow_on_held_out_texts(world):
    properties, features, *_, fitted = world
    raw = features @ fitted.heads.T
    turn = find_turn(raw[:500], properties[:500])
    axes, correlations = name_axes(turn, turn.apply(raw[500:]), properties[500:])
    assert [axis.label for axis in axes] == [one.name for one in PROPERTIES]
    assert min(correlations) > 0.7


def test_an_axis_without_a_property_gets_no_property_name():
    rng = np.random.default_rng(1)
    rewards, properties = rng.standard_normal((400, 2)), rng.standard_normal((400, len(PROPERTIES)))
    turn = find_turn(rewards[:200], properties[:200])
    axes, _ = name_axes(turn, turn.apply(rewards[200:]), properties[200:])
    assert [axis.label for axis in axes] == ["axis 0", "axis 1"]
