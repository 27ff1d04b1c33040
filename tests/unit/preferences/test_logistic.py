"""Probabilities and entropies, in the middle and far out in the tails."""

from math import exp, log, log1p

import numpy as np
import pytest

from app.preferences.logistic import (
    binary_entropy_bits,
    expected_sigmoid,
    log_sigmoid,
    preference_probability,
    sigmoid,
)
from tests.unit.preferences.worlds import dense_expectation, random_belief


@pytest.mark.parametrize("value", [-700.0, -36.0, -1.0, 0.0, 0.3, 36.0])
def test_sigmoid_keeps_its_relative_precision(value: float) -> None:
    assert sigmoid(np.array([value]))[0] == pytest.approx(1.0 / (1.0 + exp(-value)), rel=1e-14)


def test_sigmoid_of_any_finite_number_is_a_probability() -> None:
    np.testing.assert_array_equal(sigmoid(np.array([-1e308, 1e308])), [0.0, 1.0])


@pytest.mark.parametrize("value", [-700.0, -36.0, -1.0, 0.0, 36.0, 700.0])
def test_log_sigmoid_keeps_its_relative_precision(value: float) -> None:
    expected = -log1p(exp(-value)) if value > -40 else value - log1p(exp(value))
    assert log_sigmoid(np.array([value]))[0] == pytest.approx(expected, rel=1e-14)


def test_entropy_is_one_bit_for_a_coin_and_none_for_certainty() -> None:
    np.testing.assert_array_equal(binary_entropy_bits(np.array([0.0, 0.5, 1.0])), [0.0, 1.0, 0.0])


def test_entropy_follows_its_definition() -> None:
    expected = -(0.1 * log(0.1) + 0.9 * log(0.9)) / log(2)
    assert binary_entropy_bits(np.array([0.1]))[0] == pytest.approx(expected, rel=1e-14)


# The documented accuracy of 32 points, with a little room above the errors measured.
@pytest.mark.parametrize(("std", "tolerance"), [(0.0, 1e-14), (1.0, 1e-12), (2.0, 2e-7), (3.0, 2.5e-5), (5.0, 1.2e-3)])
def test_expected_sigmoid_agrees_with_dense_integration(std: float, tolerance: float) -> None:
    means = np.linspace(-4 * std - 4, 4 * std + 4, 41)
    exact = np.array([dense_expectation(sigmoid, mean, std) for mean in means])
    assert np.abs(expected_sigmoid(means, np.full(41, std**2)) - exact).max() < tolerance


def test_preference_probability_agrees_with_drawing_coefficients() -> None:
    rng = np.random.default_rng(5)
    belief, differences = random_belief(rng, 4), rng.standard_normal((6, 4))
    draws = rng.multivariate_normal(belief.mean, belief.covariance(), 200_000)
    simulated = sigmoid(draws @ differences.T).mean(axis=0)
    # Standard error at most 0.5 / sqrt(200,000) = 0.0011; five of them.
    np.testing.assert_allclose(preference_probability(belief, differences), simulated, atol=0.0056)


def test_swapping_the_sides_gives_the_complementary_probability() -> None:
    rng = np.random.default_rng(6)
    belief, differences = random_belief(rng, 4), rng.standard_normal((2500, 4))
    both = preference_probability(belief, differences) + preference_probability(belief, -differences)
    np.testing.assert_allclose(both, 1.0, atol=1e-14)


def test_equal_candidates_are_a_coin_flip() -> None:
    belief = random_belief(np.random.default_rng(7), 4)
    assert preference_probability(belief, np.zeros((1, 4)))[0] == pytest.approx(0.5, abs=1e-15)
