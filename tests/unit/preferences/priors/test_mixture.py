"""Mixtures of Gaussians: kinds of people told apart, and one kind where there is only one."""

import numpy as np
import pytest

from app.preferences.answers import Answers, ResponseModel
from app.preferences.priors.components import joint_log_likelihood
from app.preferences.priors.mixture import MixtureFit, MixturePrior
from tests.unit.preferences.priors.crowds import answered
from tests.unit.preferences.worlds import unchecked_shapes

PLAIN = ResponseModel()


def test_one_coefficient_agrees_with_a_grid() -> None:
    prior = MixturePrior(np.array([0.7, 0.3]), np.array([[-1.0], [1.5]]), np.array([[[2.0]], [[4.0]]]))
    answers = Answers.of(np.array([[1.0], [0.5], [1.2]]), np.array([1.0, 1.0, 0.0]))
    grid = np.linspace(-6.0, 6.0, 9001)[:, None]
    density = 0.7 * np.sqrt(2.0) * np.exp(-((grid[:, 0] + 1.0) ** 2))
    density += 0.3 * 2.0 * np.exp(-2.0 * (grid[:, 0] - 1.5) ** 2)
    posterior = density * np.exp(joint_log_likelihood(answers, grid, PLAIN))
    belief, _ = prior.condition(answers, PLAIN)
    assert belief.mean[0] == pytest.approx(float(posterior @ grid[:, 0] / posterior.sum()), abs=0.02)  # Laplace's error


def test_kinds_of_people_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    kinds = np.array([[3.0, 0.0], [-3.0, 0.0]])
    with unchecked_shapes():
        prior = MixtureFit((1, 2))(*answered(kinds[np.arange(60) % 2], 20, rng), None, rng)
    assert len(prior.weights) == 2
    np.testing.assert_allclose(
        np.sort(prior.means[:, 0]), [-3.0, 3.0], atol=1.2
    )  # 20 clear answers each say little of size
    np.testing.assert_allclose(prior.weights, 0.5, atol=0.05)


def test_a_handful_of_people_are_one_kind() -> None:
    rng = np.random.default_rng(1)
    with unchecked_shapes():
        assert len(MixtureFit()(*answered(np.ones((5, 2)), 10, rng), None, rng).weights) == 1


def test_a_precision_that_is_indefinite_is_refused() -> None:
    with pytest.raises(ValueError, match="positive definite"):
        MixturePrior(np.ones(1), np.zeros((1, 2)), np.diag([1.0, -1.0])[None])
