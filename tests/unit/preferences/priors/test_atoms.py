"""Atoms: exact where people are among them, and never lost where they are not."""

import numpy as np
import pytest

from app.preferences.answers import Answers, ResponseModel
from app.preferences.logistic import sigmoid
from app.preferences.priors.atoms import AtomsFit, AtomsPrior
from app.preferences.priors.components import joint_log_likelihood
from tests.unit.preferences.priors.crowds import answered
from tests.unit.preferences.worlds import random_answers, unchecked_shapes

PLAIN = ResponseModel()


def test_points_are_weighed_by_the_product_of_their_likelihoods() -> None:
    rng = np.random.default_rng(0)
    atoms, (rows, labels) = rng.standard_normal((5, 2)), random_answers(rng, 4, 2)
    labels = np.round(labels)
    belief, _ = AtomsPrior(atoms, np.full(5, 0.2), np.zeros((2, 2))).condition(Answers.of(rows, labels), PLAIN)
    likelihoods = np.prod(sigmoid((2.0 * labels - 1.0) * (atoms @ rows.T)), axis=1)
    np.testing.assert_allclose(belief.mean, likelihoods @ atoms / likelihoods.sum(), rtol=1e-12)


def test_halos_around_one_coefficient_agree_with_a_grid() -> None:
    atoms, answers = np.array([[-1.0], [0.5], [2.0]]), Answers.of(np.array([[1.5], [0.7]]), np.array([1.0, 1.0]))
    belief, _ = AtomsPrior(atoms, np.full(3, 1 / 3), np.array([[0.16]])).condition(answers, PLAIN)
    grid = np.linspace(-4.0, 5.0, 9001)[:, None]
    density = np.exp(-((grid - atoms.T) ** 2) / 0.32).sum(axis=1)
    posterior = density * np.exp(joint_log_likelihood(answers, grid, PLAIN))
    assert belief.mean[0] == pytest.approx(float(posterior @ grid[:, 0] / posterior.sum()), abs=0.005)


def test_an_atom_of_probability_zero_stays_impossible() -> None:
    prior = AtomsPrior(np.array([[3.0], [-3.0]]), np.array([0.0, 1.0]), np.zeros((1, 1)))
    belief, _ = prior.condition(Answers.of(np.ones((5, 1)), np.ones(5)), PLAIN)
    assert belief.mean[0] == -3.0


def test_a_halo_that_is_no_covariance_is_refused() -> None:
    with pytest.raises(ValueError, match="halo"):
        AtomsPrior(np.zeros((1, 2)), np.ones(1), np.diag([1.0, -1.0]))


def test_people_who_answer_without_noise_become_next_to_points() -> None:
    rng = np.random.default_rng(1)
    crowd = answered(10.0 * rng.dirichlet(np.full(4, 0.1), 40), 20, rng, noise_free=True)
    with unchecked_shapes():
        prior = AtomsFit()(*crowd, None, rng)
    assert np.trace(prior.halo) < 0.1 * np.trace(prior.population.covariance())


def test_people_spread_densely_get_halos() -> None:
    rng = np.random.default_rng(2)
    crowd = answered(rng.standard_normal((40, 4)), 25, rng)
    with unchecked_shapes():
        prior = AtomsFit()(*crowd, None, rng)
    assert np.trace(prior.halo) > 0.1 * np.trace(prior.population.covariance())
