"""What an answer tells: mixtures against drawing, and the bound that searches rest on."""

import numpy as np
import pytest

from app.preferences.belief import Margins
from app.preferences.information import (
    gaussian_information_bits,
    information_bits,
    information_bound,
    least_variance,
)
from app.preferences.logistic import binary_entropy_bits, sigmoid

WEIGHTS = np.array([0.5, 0.3, 0.2])


def random_margins(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Means up to 80 log-odds and standard deviations between 1e-4 and 12, most of them small."""
    return 80.0 * rng.random(count) ** 3 * rng.choice([-1.0, 1.0], count), 10.0 ** rng.uniform(-8.0, 2.16, count)


def test_the_information_in_a_mixture_agrees_with_drawing_from_it() -> None:
    rng = np.random.default_rng(0)
    means, variances = rng.standard_normal((5, 3)), rng.uniform(0.1, 2.0, (5, 3))
    component = rng.choice(3, 200_000, p=WEIGHTS)
    draws = means[:, component] + np.sqrt(variances[:, component]) * rng.standard_normal(200_000)
    probabilities = sigmoid(draws)
    simulated = binary_entropy_bits(probabilities.mean(axis=1)) - binary_entropy_bits(probabilities).mean(axis=1)
    # Standard error of a mean of entropies at most 0.5 / sqrt(200,000) = 0.0011; five of them.
    np.testing.assert_allclose(information_bits(Margins(WEIGHTS, means, variances)), simulated, atol=0.0056)


def test_the_information_in_points_is_exact() -> None:
    means = np.array([[2.0, -1.0, 0.5]])
    probabilities = sigmoid(means[0])
    exact = binary_entropy_bits(WEIGHTS @ probabilities[:, None])[0] - WEIGHTS @ binary_entropy_bits(probabilities)
    assert information_bits(Margins(WEIGHTS, means, np.zeros((1, 3))))[0] == pytest.approx(exact, abs=1e-14)


def test_equal_components_tell_what_one_of_them_tells() -> None:
    means, variances = np.linspace(-3.0, 3.0, 7), np.linspace(0.0, 4.0, 7)
    mixture = Margins(WEIGHTS, np.tile(means[:, None], 3), np.tile(variances[:, None], 3))
    np.testing.assert_allclose(information_bits(mixture), gaussian_information_bits(means, variances), atol=1e-14)


def test_many_components_are_evaluated_row_by_row_alike() -> None:
    rng = np.random.default_rng(1)
    weights, means = np.full(4000, 1 / 4000), rng.standard_normal((9, 4000))
    together = information_bits(Margins(weights, means, np.ones((9, 4000))))
    alone = [information_bits(Margins(weights, means[[row]], np.ones((1, 4000))))[0] for row in range(9)]
    np.testing.assert_allclose(together, alone, atol=1e-14)


def test_the_bound_is_never_exceeded() -> None:
    means, variances = random_margins(np.random.default_rng(2), 200_000)
    assert (information_bound(means, variances) >= gaussian_information_bits(means, variances)).all()


def test_the_bound_holds_for_smaller_variances() -> None:
    rng = np.random.default_rng(3)
    means, variances = random_margins(rng, 100_000)
    smaller = variances * rng.random(100_000)
    assert (information_bound(means, variances) >= gaussian_information_bits(means, smaller)).all()


def test_the_bound_of_a_mean_of_zero_holds_for_every_mean() -> None:
    means, variances = random_margins(np.random.default_rng(4), 100_000)
    assert (information_bound(np.zeros(100_000), variances) >= gaussian_information_bits(means, variances)).all()


def test_the_bound_is_close_where_people_are_unsure() -> None:
    means, stds = (grid.ravel() for grid in np.meshgrid(np.linspace(0.0, 3.0, 50), np.linspace(0.2, 3.0, 50)))
    ratio = information_bound(means, stds**2) / gaussian_information_bits(means, stds**2)
    assert ratio.max() < 1.35  # 1.26 measured


@pytest.mark.parametrize("bits", [1e-6, 0.02, 0.3, 0.7, 0.9, 1.0])
def test_no_pair_below_the_least_variance_reaches_the_bits(bits: float) -> None:
    variance = least_variance(bits)
    below = variance * np.linspace(0.0, 1.0, 1000, endpoint=False)
    assert gaussian_information_bits(np.zeros(1000), below).max() < bits


def test_the_least_variance_is_no_smaller_than_its_bound_needs() -> None:
    for bits in (0.02, 0.3, 0.7):
        assert information_bound(np.zeros(1), np.array([least_variance(bits)]))[0] == pytest.approx(bits, rel=0.1)


def test_no_bits_need_no_variance() -> None:
    assert least_variance(0.0) == 0.0
