"""The simplex: people inside it, integrals against a grid, and the scale of their answers."""

import numpy as np
import pytest

from app.preferences.answers import Answers, ResponseModel
from app.preferences.gaussian import Posterior
from app.preferences.priors.components import joint_log_likelihood
from app.preferences.priors.gaussian import GaussianFit
from app.preferences.priors.heldout import sequential_losses
from app.preferences.priors.simplex import SimplexFit, SimplexPrior
from tests.unit.preferences.priors.crowds import answered, answers_of
from tests.unit.preferences.worlds import standard_belief, unchecked_shapes

PLAIN = ResponseModel()


def test_two_pure_tastes_agree_with_a_grid() -> None:
    vertices, answers = np.array([[3.0], [-2.0]]), Answers.of(np.ones((3, 1)), np.array([1.0, 1.0, 0.0]))
    belief, _ = SimplexPrior(standard_belief(2), vertices).condition(answers, PLAIN)
    apart = np.linspace(-12.0, 12.0, 4001)  # z_1 - z_2, of variance 2
    share = 1.0 / (1.0 + np.exp(-apart))
    coefficients = (share * 3.0 - (1.0 - share) * 2.0)[:, None]
    posterior = np.exp(-(apart**2) / 4.0 + joint_log_likelihood(answers, coefficients, PLAIN))
    # 512 weighted draws of standard deviation near 1: two standard errors.
    assert belief.mean[0] == pytest.approx(float(posterior @ coefficients[:, 0] / posterior.sum()), abs=0.1)


def test_everybody_lies_between_the_pure_tastes() -> None:
    vertices = np.array([[2.0, 0.0], [0.0, 2.0]])
    prior = SimplexPrior(Posterior(np.zeros(2), np.eye(2) / 9.0), vertices)
    belief, _ = prior.condition(Answers.of(np.array([[1.0, -1.0]] * 20), np.ones(20)), PLAIN)
    np.testing.assert_allclose(belief.means.sum(axis=1), 2.0)
    assert belief.means.min() >= 0.0


def test_turning_the_basis_turns_the_belief_along() -> None:
    rng = np.random.default_rng(0)
    turn, vertices, rows = rng.standard_normal((3, 3)), rng.standard_normal((4, 3)), rng.standard_normal((6, 3))
    labels = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    straight, _ = SimplexPrior(standard_belief(4), vertices).condition(Answers.of(rows, labels), PLAIN)
    turned, _ = SimplexPrior(standard_belief(4), vertices @ turn).condition(
        Answers.of(np.linalg.solve(turn, rows.T).T, labels), PLAIN
    )
    np.testing.assert_allclose(turned.mean, straight.mean @ turn, atol=0.02)  # rows come in another order


def test_vertices_that_do_not_fit_the_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="vertices"):
        SimplexPrior(standard_belief(2), np.ones((3, 2)))


def test_people_on_the_simplex_are_known_sooner_than_by_a_gaussian() -> None:
    rng = np.random.default_rng(1)
    crowd = answered(10.0 * rng.dirichlet(np.full(4, 0.1), 60), 20, rng, noise_free=True)
    seen = crowd[2] < 44
    fitted = crowd[0][seen], crowd[1][seen], crowd[2][seen]
    with unchecked_shapes():
        simplex, gaussian = (fit(*fitted, None, rng) for fit in (SimplexFit(), GaussianFit()))
        gains = [
            sequential_losses(gaussian, answers_of(crowd, person))
            - sequential_losses(simplex, answers_of(crowd, person))
            for person in range(44, 60)
        ]
    assert np.mean(gains, axis=0)[1:].min() > 0.05  # nats after 3 and after 10 answers
