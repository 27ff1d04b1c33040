"""Mixtures: what they refuse, and the evidence by which their parts are weighed."""

import numpy as np
import pytest

from app.preferences.answers import Answers, ResponseModel
from app.preferences.logistic import preference_probability
from app.preferences.priors.components import Components, joint_log_likelihood, points, update_gaussians
from tests.unit.preferences.worlds import random_answers, random_belief, unchecked_shapes

PLAIN = ResponseModel()


def test_the_covariance_counts_what_lies_between_components() -> None:
    belief = Components(np.array([0.5, 0.5]), np.array([[1.0], [-1.0]]), np.array([[[0.5]]]))
    assert belief.covariance()[0, 0] == pytest.approx(1.25)
    assert belief.std()[0] == pytest.approx(np.sqrt(1.25))


def test_points_of_negligible_weight_are_left_out() -> None:
    assert len(points(np.array([0.0, -50.0]), np.ones((2, 3))).weights) == 1


def test_predictions_do_not_depend_on_how_rows_are_chunked() -> None:
    rng = np.random.default_rng(1)
    belief, rows = points(np.zeros(5), rng.standard_normal((5, 2))), rng.standard_normal((1500, 2))
    expected = [preference_probability(belief, rows[start : start + 100]) for start in range(0, 1500, 100)]
    np.testing.assert_allclose(preference_probability(belief, rows), np.concatenate(expected), rtol=1e-13)


@pytest.mark.parametrize(
    ("weights", "means", "factors", "complaint"),
    [
        (np.ones(2), np.zeros((1, 2)), np.zeros((1, 0, 2)), "do not fit"),
        (np.array([0.4]), np.zeros((1, 2)), np.zeros((1, 0, 2)), "add up to one"),
        (np.array([1.5, -0.5]), np.zeros((2, 2)), np.zeros((1, 0, 2)), "negative"),
        (np.ones(1), np.full((1, 2), np.nan), np.zeros((1, 0, 2)), "finite"),
    ],
)
def test_a_mixture_that_is_none_is_refused(
    weights: np.ndarray, means: np.ndarray, factors: np.ndarray, complaint: str
) -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match=complaint):
        Components(weights, means, factors)


def test_an_offset_of_another_size_is_refused() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="one entry each"):
        points(np.zeros(2), np.ones((2, 3))).moved(np.zeros(2))


def test_the_joint_likelihood_counts_weights_and_the_exponent() -> None:
    answers = Answers(np.array([[1.0], [2.0]]), np.array([1.0, 0.0]), np.array([1.0, 0.5]))
    expected = 0.8 * (-np.log1p(np.exp(-0.7)) - 0.5 * np.log1p(np.exp(1.4)))
    assert joint_log_likelihood(answers, np.array([[0.7]]), ResponseModel(0.8))[0] == pytest.approx(expected)


def test_every_gaussian_is_fitted_as_if_alone() -> None:
    rng = np.random.default_rng(0)
    parts, answers = [random_belief(rng, 3) for _ in range(4)], Answers.of(*random_answers(rng, 12, 3))
    means, precisions = np.array([one.mean for one in parts]), np.array([one.precision for one in parts])
    together = update_gaussians(means, precisions, answers, PLAIN)
    for index in range(4):
        alone = update_gaussians(means[[index]], precisions[[index]], answers, PLAIN)
        np.testing.assert_allclose(together.means[index], alone.means[0], atol=1e-6)
        assert together.evidence[index] == pytest.approx(alone.evidence[0], abs=1e-9)


def test_the_evidence_of_one_coefficient_agrees_with_a_grid() -> None:
    answers = Answers.of(np.array([[1.0], [0.5], [-0.8]]), np.array([1.0, 0.0, 1.0]))
    grid = np.linspace(-9.0, 9.0, 6001)
    density = np.exp(-0.5 * (grid - 0.5) ** 2) / np.sqrt(2.0 * np.pi)
    exact = np.log((density * np.exp(joint_log_likelihood(answers, grid[:, None], PLAIN))).sum() * 0.003)
    found = update_gaussians(np.array([[0.5]]), np.ones((1, 1, 1)), answers, PLAIN)
    assert found.evidence[0] == pytest.approx(exact, abs=0.01)  # Laplace's own error
