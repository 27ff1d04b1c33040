"""The fit of one person: derivatives, oracles, extremes, symmetries and replay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.preferences.answers import Answers, ResponseModel
from app.preferences.logistic import sigmoid
from app.preferences.posterior import LARGEST_DIFFERENCE, Posterior, fit_posterior, gradient, objective, precision
from tests.unit.preferences.worlds import random_answers, random_belief, standard_belief

SCALES = [1e-2, 1.0, 1e2]
TEMPERED = ResponseModel(exponent=0.7)
RESPONSES = [TEMPERED, ResponseModel(tie_strength=0.6), ResponseModel(lapse=0.1), ResponseModel(0.7, 0.1, 0.6)]
CONCAVE = RESPONSES[:2]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_gradient_agrees_with_finite_differences(scale: float, response: ResponseModel) -> None:
    rng = np.random.default_rng(0)
    belief, (rows, answers) = random_belief(rng, 4), random_answers(rng, 12, 4)
    rows, point, step = rows * scale, rng.standard_normal(4) / scale, 1e-5 / scale
    weights = rng.uniform(0.0, 2.0, 12)
    given = Answers(rows, answers, weights)
    slope = gradient(belief, given, point, response)
    numeric = [
        (
            objective(belief, given, point + step * unit, response)
            - objective(belief, given, point - step * unit, response)
        )
        / (2 * step)
        for unit in np.eye(4)
    ]
    # Central differences lose half of the digits: rounding 1e-16 / 1e-5, curvature 1e-10.
    np.testing.assert_allclose(numeric, slope, rtol=1e-6, atol=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize("response", CONCAVE)
@pytest.mark.parametrize("scale", SCALES)
def test_the_precision_agrees_with_finite_differences_of_the_gradient(scale: float, response: ResponseModel) -> None:
    rng = np.random.default_rng(1)
    belief, (rows, answers) = random_belief(rng, 4), random_answers(rng, 12, 4)
    rows, point, step = rows * scale, rng.standard_normal(4) / scale, 1e-5 / scale
    weights = rng.uniform(0.0, 2.0, 12)
    given = Answers(rows, answers, weights)
    curvature = precision(belief, rows, point, weights, response)
    numeric = [
        (
            gradient(belief, given, point + step * unit, response)
            - gradient(belief, given, point - step * unit, response)
        )
        / (2 * step)
        for unit in np.eye(4)
    ]
    np.testing.assert_allclose(numeric, curvature, rtol=1e-6, atol=1e-6 * np.abs(curvature).max())


def test_one_coefficient_agrees_with_a_grid() -> None:
    rng = np.random.default_rng(2)
    prior, (rows, answers) = Posterior(np.array([0.4]), np.array([[0.8]])), random_answers(rng, 15, 1)
    grid = np.linspace(-5.0, 5.0, 20_001)
    losses = [objective(prior, Answers.of(rows, answers), np.array([point])) for point in grid[::100]]
    around = grid[max(int(np.argmin(losses)) - 1, 0) * 100 :][:201]
    best = around[np.argmin([objective(prior, Answers.of(rows, answers), np.array([point])) for point in around])]
    posterior, _ = fit_posterior(prior, rows, answers)
    assert posterior.mean[0] == pytest.approx(best, abs=5e-4)  # the grid's spacing


def test_one_answer_moves_the_mean_by_the_fixed_point_of_its_own_surprise() -> None:
    posterior, _ = fit_posterior(standard_belief(1), np.array([[2.0]]), np.array([1.0]))
    surprise = sigmoid(-2.0 * posterior.mean)[0]
    assert posterior.mean[0] == pytest.approx(2.0 * surprise, abs=1e-8)  # the tolerance of the fit


def test_no_comparisons_give_the_prior_itself() -> None:
    prior = random_belief(np.random.default_rng(3), 3)
    assert fit_posterior(prior, np.zeros((0, 3)), np.zeros(0))[0] is prior


def test_equal_candidates_tell_nothing() -> None:
    prior = random_belief(np.random.default_rng(4), 3)
    assert fit_posterior(prior, np.zeros((5, 3)), np.ones(5))[0] is prior


def test_an_exponent_of_zero_ignores_the_answers() -> None:
    rng = np.random.default_rng(5)
    prior = random_belief(rng, 3)
    assert fit_posterior(prior, *random_answers(rng, 5, 3), response=ResponseModel(exponent=0.0))[0] is prior


def test_an_exponent_of_two_counts_every_answer_twice() -> None:
    rng = np.random.default_rng(6)
    prior, (rows, answers) = random_belief(rng, 3), random_answers(rng, 10, 3)
    doubled, _ = fit_posterior(prior, np.tile(rows, (2, 1)), np.tile(answers, 2))
    tempered, _ = fit_posterior(prior, rows, answers, response=ResponseModel(exponent=2.0))
    np.testing.assert_allclose(tempered.mean, doubled.mean, atol=1e-8)  # the tolerance of the fit


def test_a_weight_of_two_counts_an_answer_twice() -> None:
    rng = np.random.default_rng(11)
    prior, (rows, answers) = random_belief(rng, 3), random_answers(rng, 10, 3)
    repeats = np.arange(10) % 3
    repeated, _ = fit_posterior(prior, np.repeat(rows, repeats, axis=0), np.repeat(answers, repeats))
    weighted, _ = fit_posterior(prior, rows, answers, weights=repeats.astype(np.float64))
    np.testing.assert_allclose(weighted.mean, repeated.mean, atol=1e-8)  # the tolerance of the fit


def test_answers_of_no_weight_are_left_out() -> None:
    rng = np.random.default_rng(12)
    prior = random_belief(rng, 3)
    assert fit_posterior(prior, *random_answers(rng, 5, 3), weights=np.zeros(5))[0] is prior


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("response", RESPONSES)
def test_every_response_model_ends_at_a_stationary_point(scale: float, response: ResponseModel) -> None:
    rng = np.random.default_rng(13)
    prior, (rows, answers) = random_belief(rng, 4), random_answers(rng, 30, 4)
    posterior, report = fit_posterior(prior, scale * rows, answers, response=response)
    left = gradient(prior, Answers.of(scale * rows, answers), posterior.mean, response)
    assert report.converged
    assert left @ np.linalg.inv(posterior.precision) @ left < 2e-10  # twice the square of LAPSE_TOLERANCE


def test_a_lapse_rate_keeps_one_contrary_answer_from_overturning_many() -> None:
    rows, answers = np.full((11, 1), 3.0), np.array([1.0] * 10 + [0.0])
    plain, _ = fit_posterior(standard_belief(1, 5.0), rows, answers)
    lapsing, _ = fit_posterior(standard_belief(1, 5.0), rows, answers, response=ResponseModel(lapse=0.2))
    assert lapsing.mean[0] > 1.5 * plain.mean[0]


def test_a_tie_pulls_the_two_candidates_together() -> None:
    prior = Posterior(np.array([2.0]), np.array([[1.0]]))
    posterior, _ = fit_posterior(prior, np.array([[1.0]]), np.array([0.5]))
    assert 0.0 < posterior.mean[0] < 2.0


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3, LARGEST_DIFFERENCE / 10])
@pytest.mark.parametrize("against", [False, True])
def test_separable_answers_converge_at_every_scale(scale: float, against: bool) -> None:
    rows = scale * np.clip(np.random.default_rng(7).standard_normal((30, 6)), -5, 5)
    answers = (rows.sum(axis=1) > 0).astype(np.float64)
    _, report = fit_posterior(Posterior(np.full(6, -3.0 if against else 3.0), np.eye(6)), rows, answers)
    assert report.converged


def test_plain_newton_would_diverge_where_the_damped_one_converges() -> None:
    prior = Posterior(np.array([8.0]), np.array([[1e-4]]))
    rows, answers = np.full((4, 1), 2.0), np.array([0.0, 0.0, 0.0, 1.0])
    first = np.linalg.solve(precision(prior, rows, prior.mean), gradient(prior, Answers.of(rows, answers), prior.mean))
    assert objective(prior, Answers.of(rows, answers), prior.mean - first) > objective(
        prior, Answers.of(rows, answers), prior.mean
    )
    posterior, _ = fit_posterior(prior, rows, answers)
    assert posterior.mean[0] == pytest.approx(-np.log(3) / 2, abs=0.01)  # the maximum of the likelihood


def test_the_report_tells_the_gradient_that_is_left() -> None:
    rng = np.random.default_rng(8)
    prior, (rows, answers) = random_belief(rng, 4), random_answers(rng, 20, 4)
    posterior, report = fit_posterior(prior, rows, answers)
    left = np.abs(gradient(prior, Answers.of(rows, answers), posterior.mean)).max()
    assert report.largest_gradient == pytest.approx(left, abs=1e-12)
    assert left < 1e-6


@pytest.mark.parametrize(
    ("rows", "answers", "weights", "complaint"),
    [
        (np.full((1, 2), np.nan), [1.0], [1.0], "finite"),
        (np.zeros((1, 3)), [1.0], [1.0], r"\(N, 2\)"),
        (np.full((1, 2), 2e6), [1.0], [1.0], "standardise"),
        (np.ones((1, 2)), [1.5], [1.0], "between 0"),
        (np.ones((1, 2)), [np.nan], [1.0], "between 0"),
        (np.ones((1, 2)), [1.0], [-1.0], "weights"),
        (np.ones((1, 2)), [1.0], [np.nan], "weights"),
    ],
)
def test_broken_input_is_refused_by_name(
    rows: np.ndarray, answers: list[float], weights: list[float], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_posterior(standard_belief(2), rows, np.array(answers), weights=np.array(weights))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, count=st.integers(0, 30), size=st.integers(1, 6))
def test_swapping_the_sides_of_every_pair_changes_no_bit(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    prior, (rows, answers) = random_belief(rng, size), random_answers(rng, count, size)
    weights, response = rng.uniform(0.0, 1.0, count), RESPONSES[seed % len(RESPONSES)]
    one, _ = fit_posterior(prior, rows, answers, weights=weights, response=response)
    other, _ = fit_posterior(prior, -rows, 1.0 - answers, weights=weights, response=response)
    assert (one.mean.tobytes(), one.precision.tobytes()) == (other.mean.tobytes(), other.precision.tobytes())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 30), size=st.integers(1, 6))
def test_the_order_of_the_answers_changes_no_bit(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    prior, (rows, answers) = random_belief(rng, size), random_answers(rng, count, size)
    order = rng.permutation(count)
    weights, response = rng.choice([0.3, 0.7, 1.0], count), RESPONSES[seed % len(RESPONSES)]
    one, _ = fit_posterior(prior, rows, answers, weights=weights, response=response)
    other, _ = fit_posterior(prior, rows[order], answers[order], weights=weights[order], response=response)
    assert (one.mean.tobytes(), one.precision.tobytes()) == (other.mean.tobytes(), other.precision.tobytes())


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, count=st.integers(1, 30), size=st.integers(1, 6))
def test_precision_minus_prior_precision_is_positive_semidefinite(seed: int, count: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    prior = random_belief(rng, size)
    posterior, _ = fit_posterior(prior, *random_answers(rng, count, size))
    lowest = np.linalg.eigvalsh(posterior.precision - prior.precision).min()
    assert lowest >= -1e-12 * np.abs(posterior.precision).max()


def test_replaying_the_same_answers_gives_the_same_bits() -> None:
    rng = np.random.default_rng(9)
    prior, (rows, answers) = random_belief(rng, 8), random_answers(rng, 40, 8)
    one, _ = fit_posterior(prior, rows, answers)
    other, _ = fit_posterior(prior, np.asfortranarray(rows.copy()), answers.copy())
    assert (one.mean.tobytes(), one.precision.tobytes()) == (other.mean.tobytes(), other.precision.tobytes())


def test_fitting_changes_none_of_its_arguments() -> None:
    rng = np.random.default_rng(10)
    prior, (rows, answers) = random_belief(rng, 4), random_answers(rng, 10, 4)
    kept = prior.mean.copy(), rows.copy(), answers.copy()
    fit_posterior(prior, rows, answers)
    for before, after in zip(kept, (prior.mean, rows, answers), strict=True):
        np.testing.assert_array_equal(before, after)
