import numpy as np
import pytest

from app.training.axes import find_turn, name_axes
from app.training.properties import PROPERTIES

ROWS, SIZE = 800, len(PROPERTIES)


@pytest.fixture(scope="module")
def properties():
    """Ten properties of texts, of which neighbours are correlated."""
    rng = np.random.default_rng(3)
    mixing = np.eye(SIZE) + 0.4 * np.eye(SIZE, k=1)
    return rng.standard_normal((ROWS, SIZE)) @ mixing


@pytest.fixture(scope="module")
def rewards(properties):
    """Basis rewards that span the properties, turned at random, with noise."""
    rng = np.random.default_rng(4)
    return properties @ rng.standard_normal((SIZE, SIZE)) + 0.2 * rng.standard_normal((ROWS, SIZE)) + 1.0


def test_a_turn_keeps_every_reward_difference(rewards, properties):
    turn = find_turn(rewards, properties)
    coefficients = np.random.default_rng(0).standard_normal((30, SIZE))
    turned, moved = turn.apply(rewards), turn.coefficients(coefficients)
    before = (rewards[:50] - rewards[50:100]) @ coefficients.T
    np.testing.assert_allclose((turned[:50] - turned[50:100]) @ moved.T, before, atol=1e-8)


def test_turned_axes_have_unit_spread_around_zero(rewards, properties):
    turned = find_turn(rewards, properties).apply(rewards)
    np.testing.assert_allclose(turned.mean(0), 0.0, atol=1e-8)
    np.testing.assert_allclose(turned.std(0, ddof=1), 1.0, atol=1e-8)


def test_axes_take_the_names_of_the_properties_they_follow_on_held_out_texts(rewards, properties):
    turn = find_turn(rewards[:500], properties[:500])
    axes, correlations = name_axes(turn, turn.apply(rewards[500:]), properties[500:])
    assert [axis.label for axis in axes] == [one.name for one in PROPERTIES]
    assert min(correlations) > 0.8


def test_axes_correlate_as_the_properties_do(rewards, properties):
    turned = find_turn(rewards, properties).apply(rewards)
    np.testing.assert_allclose(np.corrcoef(turned.T), np.corrcoef(properties.T), atol=0.15)


def test_an_axis_without_a_property_gets_no_property_name():
    rng = np.random.default_rng(1)
    rewards, properties = rng.standard_normal((400, 2)), rng.standard_normal((400, SIZE))
    turn = find_turn(rewards[:200], properties[:200])
    axes, _ = name_axes(turn, turn.apply(rewards[200:]), properties[200:])
    assert [axis.label for axis in axes] == ["axis 0", "axis 1"]


def test_with_more_rewards_than_properties_the_others_are_uncorrelated_with_all(rewards, properties):
    more = np.hstack([rewards, np.random.default_rng(2).standard_normal((ROWS, 2))])
    turn = find_turn(more, properties)
    assert turn.properties == (*range(SIZE), -1, -1)
    correlations = np.corrcoef(turn.apply(more).T)[SIZE:]
    np.testing.assert_allclose(correlations, np.eye(SIZE + 2)[SIZE:], atol=1e-8)


def test_of_two_properties_that_the_rewards_cannot_tell_apart_one_is_followed(properties):
    rng = np.random.default_rng(5)
    rewards = properties[:, :2] + 0.1 * rng.standard_normal((ROWS, 2))
    twins = properties.copy()
    twins[:, 2] = twins[:, 0] + 0.1 * rng.standard_normal(ROWS)
    twins[:, 3:] = rng.standard_normal((ROWS, SIZE - 3))
    turn = find_turn(rewards, twins)
    assert 1 in turn.properties
    assert len({0, 2} & set(turn.properties)) == 1
    assert np.linalg.cond(np.cov(turn.apply(rewards).T)) < 50


def test_rewards_that_do_not_vary_are_turned_into_nothing(properties):
    turned = find_turn(np.zeros((ROWS, 2)), properties).apply(np.zeros((ROWS, 2)))
    assert (turned == 0.0).all()
