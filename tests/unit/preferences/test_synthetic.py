"""Simulated people follow the model they are drawn from."""

import numpy as np

from app.preferences.synthetic import answer, draw_people
from tests.unit.preferences.worlds import random_belief


def test_drawn_people_have_the_populations_mean_and_covariance() -> None:
    rng = np.random.default_rng(0)
    population = random_belief(rng, 3)
    people = draw_people(population, 100_000, rng)
    # Standard errors at most 0.006 for variances near one; five of them.
    np.testing.assert_allclose(people.mean(axis=0), population.mean, atol=0.03)
    np.testing.assert_allclose(np.cov(people.T), population.covariance(), atol=0.03)


def test_the_same_seed_draws_the_same_people() -> None:
    population = random_belief(np.random.default_rng(1), 3)
    one, other = (draw_people(population, 5, np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_answers_follow_the_log_odds() -> None:
    answers = answer(np.array([1.0]), np.full((100_000, 1), np.log(3.0)), np.random.default_rng(3))
    assert abs(answers.mean() - 0.75) < 0.007  # five standard errors


def test_very_clear_preferences_are_never_answered_otherwise() -> None:
    answers = answer(np.array([1.0]), np.array([[800.0], [-800.0]]), np.random.default_rng(4))
    np.testing.assert_array_equal(answers, [1.0, 0.0])
