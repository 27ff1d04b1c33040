"""What every family of priors owes its callers, family by family."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import Belief, Prior
from app.preferences.logistic import preference_probability, sigmoid
from app.preferences.priors.load import load_prior
from tests.unit.preferences.priors.crowds import every_family, some_answers
from tests.unit.preferences.worlds import unchecked_shapes

RESPONSE = ResponseModel(exponent=0.8, lapse=0.05, tie_strength=0.5)
FAMILIES = every_family(np.random.default_rng(0))
NAMES = [f"{prior.family}-{index}" for index, prior in enumerate(FAMILIES)]
ROWS = np.random.default_rng(1).standard_normal((20, 3))

each_family = pytest.mark.parametrize("prior", FAMILIES, ids=NAMES)


def bits(belief: Belief) -> bytes:
    return preference_probability(belief, ROWS).tobytes() + belief.mean.tobytes() + belief.covariance().tobytes()


@each_family
def test_no_answers_leave_the_population(prior: Prior) -> None:
    belief, report = prior.condition(some_answers(np.random.default_rng(2), 0), RESPONSE)
    assert belief is prior.population
    assert report.converged


@each_family
def test_equal_candidates_leave_the_population(prior: Prior) -> None:
    assert prior.condition(Answers.of(np.zeros((4, 3)), np.ones(4)), RESPONSE)[0] is prior.population


@each_family
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 15))
def test_order_and_sides_of_the_answers_change_no_bit(prior: Prior, seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    one = some_answers(rng, count)
    order, turned = rng.permutation(count), rng.random(count) < 0.5
    sides = np.where(turned, -1.0, 1.0)
    labels = np.where(turned, 1.0 - one.first_preferred, one.first_preferred)
    other = Answers((sides[:, None] * one.differences)[order], labels[order], one.weights[order])
    with unchecked_shapes():
        assert bits(prior.condition(one, RESPONSE)[0]) == bits(prior.condition(other, RESPONSE)[0])


@each_family
def test_a_stored_prior_comes_back_with_the_same_bits(prior: Prior) -> None:
    again = load_prior(prior.family, {name: array.copy() for name, array in prior.arrays().items()})
    answers = some_answers(np.random.default_rng(3), 8)
    assert bits(again.condition(answers, RESPONSE)[0]) == bits(prior.condition(answers, RESPONSE)[0])


@each_family
def test_a_missing_array_is_refused_by_name(prior: Prior) -> None:
    name = next(iter(prior.arrays()))
    with pytest.raises(ValueError, match=name):
        load_prior(prior.family, {other: array for other, array in prior.arrays().items() if other != name})


@each_family
def test_somebody_who_wrote_nothing_has_the_plain_prior(prior: Prior) -> None:
    assert prior.told(None) is prior


@each_family
def test_broken_answers_are_refused(prior: Prior) -> None:
    with pytest.raises(ValueError, match="finite"):
        prior.condition(Answers.of(np.full((1, 3), np.nan), np.ones(1)), RESPONSE)


@each_family
def test_answers_about_another_number_of_coefficients_are_refused(prior: Prior) -> None:
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        prior.condition(Answers.of(np.ones((1, 2)), np.ones(1)), RESPONSE)


@each_family
def test_the_prediction_is_the_average_over_draws(prior: Prior) -> None:
    belief, _ = prior.condition(some_answers(np.random.default_rng(4), 5), RESPONSE)
    drawn = belief.draw(40_000, np.random.default_rng(5))
    # Standard error at most 0.5 / sqrt(40,000) = 0.0025; four of them.
    np.testing.assert_allclose(preference_probability(belief, ROWS), sigmoid(ROWS @ drawn.T).mean(axis=1), atol=0.01)


@each_family
def test_projected_moments_are_those_of_the_margins(prior: Prior) -> None:
    belief, _ = prior.condition(some_answers(np.random.default_rng(6), 5), RESPONSE)
    margins, (means, variances) = belief.margins(ROWS), belief.project(ROWS)
    np.testing.assert_allclose(margins.means @ margins.weights, means, atol=1e-9)
    second = (margins.variances + margins.means**2) @ margins.weights - means**2
    np.testing.assert_allclose(variances, second, rtol=1e-6, atol=1e-9)


@each_family
def test_a_moved_belief_moves_every_margin(prior: Prior) -> None:
    belief, offset = prior.population, np.array([0.5, -1.0, 2.0])
    moved, still = belief.moved(offset).project(ROWS), belief.project(ROWS)
    np.testing.assert_allclose(moved[0], still[0] + ROWS @ offset, atol=1e-9)
    np.testing.assert_allclose(moved[1], still[1], rtol=1e-9)


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="gaussian"):
        load_prior("oracle", {})
