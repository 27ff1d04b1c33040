"""The belief itself: what it refuses, and its moments."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from app.preferences.posterior import Posterior
from tests.unit.preferences.worlds import random_belief, standard_belief, unchecked_shapes


@pytest.mark.parametrize("size", [1, 3, 12])
def test_the_covariance_inverts_the_precision(size: int) -> None:
    belief = random_belief(np.random.default_rng(size), size)
    np.testing.assert_allclose(belief.covariance() @ belief.precision, np.eye(size), atol=1e-10)


def test_the_standard_deviations_are_the_roots_of_the_covariances_diagonal() -> None:
    belief = random_belief(np.random.default_rng(0), 6)
    np.testing.assert_allclose(belief.std(), np.sqrt(np.diag(belief.covariance())), rtol=1e-12)


def test_projected_variances_are_quadratic_forms_of_the_covariance() -> None:
    rng = np.random.default_rng(1)
    belief, rows = random_belief(rng, 5), rng.standard_normal((20, 5))
    expected = np.einsum("nk,kl,nl->n", rows, belief.covariance(), rows)
    np.testing.assert_allclose(belief.project(rows)[1], expected, rtol=1e-10)


def test_projecting_no_rows_gives_none() -> None:
    means, variances = standard_belief(3).project(np.zeros((0, 3)))
    assert means.shape == variances.shape == (0,)


@pytest.mark.parametrize(
    ("mean", "precision", "complaint"),
    [
        ([np.nan, 0.0], np.eye(2), "finite"),
        ([0.0, 0.0], np.diag([1.0, np.inf]), "finite"),
        ([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]], "asymmetric"),
        ([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]], "positive definite"),
        ([0.0, 0.0], np.zeros((2, 2)), "positive definite"),
    ],
)
def test_a_belief_that_is_no_gaussian_is_refused(mean: list[float], precision: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Posterior(np.array(mean), np.array(precision))


def test_a_precision_of_another_size_is_refused() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="do not fit"):
        Posterior(np.zeros(2), np.eye(3))


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, 2\)"):
        standard_belief(2).project(np.zeros((4, 3)))


def test_shape_annotations_are_enforced_in_these_tests() -> None:
    with pytest.raises(TypeCheckError):
        standard_belief(2).project(np.zeros((4, 2), dtype=np.int64))


def test_the_margins_are_one_component_with_the_projected_moments() -> None:
    rng = np.random.default_rng(2)
    belief, rows = random_belief(rng, 3), rng.standard_normal((5, 3))
    margins = belief.margins(rows)
    means, variances = belief.project(rows)
    assert margins.weights.tolist() == [1.0]
    np.testing.assert_array_equal(margins.means[:, 0], means)
    np.testing.assert_array_equal(margins.variances[:, 0], variances)


def test_draws_have_the_beliefs_moments() -> None:
    belief = random_belief(np.random.default_rng(3), 3)
    drawn = belief.draw(100_000, np.random.default_rng(4))
    # Standard errors: sqrt(v / 100,000) = 0.006 of a mean, v sqrt(2 / 100,000) = 0.015 of a variance v near 3; four.
    np.testing.assert_allclose(drawn.mean(axis=0), belief.mean, atol=0.024)
    np.testing.assert_allclose(np.cov(drawn.T), belief.covariance(), atol=0.06)


def test_a_moved_belief_keeps_its_spread() -> None:
    belief = random_belief(np.random.default_rng(5), 3)
    moved = belief.moved(np.array([1.0, 0.0, -2.0]))
    np.testing.assert_array_equal(moved.mean, belief.mean + np.array([1.0, 0.0, -2.0]))
    np.testing.assert_array_equal(moved.precision, belief.precision)


def test_an_offset_of_another_size_is_refused() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="one entry each"):
        standard_belief(2).moved(np.zeros(3))
