"""The population: known ones are recovered, and narrow ones stay narrow."""

import numpy as np
import pytest
from jaxtyping import Float64, Int64

from app.preferences.answers import ResponseModel
from app.preferences.logistic import expected_sigmoid, preference_probability
from app.preferences.people import PeopleProblem
from app.preferences.population import (
    fit_population,
    log_loss,
)
from app.preferences.posterior import Posterior, fit_posterior
from app.preferences.synthetic import answer, draw_people
from tests.unit.preferences.worlds import random_answers, random_belief, standard_belief

POPULATION = Posterior(
    np.array([0.8, -0.5, 0.0]), np.linalg.inv(np.array([[0.5, 0.3, 0.0], [0.3, 0.5, 0.0], [0.0, 0.0, 0.05]]))
)

Answers = tuple[
    Float64[np.ndarray, "comparisons basis"],
    Float64[np.ndarray, " comparisons"],
    Int64[np.ndarray, " comparisons"],
]


def answers_of(coefficients: Float64[np.ndarray, "people basis"], count: int, rng: np.random.Generator) -> Answers:
    """``count`` random pairs for each person, answered."""
    people = np.repeat(np.arange(len(coefficients)), count)
    rows = rng.standard_normal((len(people), coefficients.shape[1]))
    given = [answer(own, rows[people == person], rng) for person, own in enumerate(coefficients)]
    return rows, np.concatenate(given), people


@pytest.fixture(scope="module")
def recovered() -> Posterior:
    rng = np.random.default_rng(0)
    return fit_population(*answers_of(draw_people(POPULATION, 300, rng), 20, rng), iterations=50)


# 300 people: the mean's standard error is 0.06 with the noise of 20 answers each; nearly three of them.
def test_the_mean_of_a_known_population_is_recovered(recovered: Posterior) -> None:
    np.testing.assert_allclose(recovered.mean, POPULATION.mean, atol=0.15)


# 300 people of variance 0.5 and noise 0.3: standard error of a variance 0.065; two of them, and some shrinkage.
def test_the_covariance_of_a_known_population_is_recovered(recovered: Posterior) -> None:
    np.testing.assert_allclose(recovered.covariance(), POPULATION.covariance(), atol=0.15)


@pytest.fixture(scope="module")
def narrow() -> Posterior:
    rng = np.random.default_rng(1)
    return fit_population(*answers_of(np.tile(POPULATION.mean, (100, 1)), 40, rng))


def test_people_who_hardly_differ_give_a_narrow_prior(narrow: Posterior) -> None:
    # One person's own answers leave a standard deviation of 0.4; 0.17 measured.
    assert narrow.std().max() < 0.25


def predicted_from_own(
    prior: Posterior, rows: np.ndarray, answers: np.ndarray, people: np.ndarray, asked: np.ndarray
) -> np.ndarray:
    """Predictions of the rows not asked, each from the asked rows of the same person; people lie together."""
    found = []
    for person in np.unique(people):
        own = people == person
        belief, _ = fit_posterior(prior, rows[own & asked], answers[own & asked])
        found.append(preference_probability(belief, rows[own & ~asked]))
    return np.concatenate(found)


def test_a_narrow_prior_does_not_let_few_answers_mislead(narrow: Posterior) -> None:
    rng = np.random.default_rng(2)
    rows, answers, people = answers_of(np.tile(POPULATION.mean, (100, 1)), 60, rng)
    place = np.tile(np.arange(60), 100)
    loss = {}
    for count in (0, 5):
        kept = (place < count) | (place >= 10)
        asked = place[kept] < count
        predictions = predicted_from_own(narrow, rows[kept], answers[kept], people[kept], asked)
        loss[count] = log_loss(predictions, answers[kept][~asked])
    assert loss[5] < loss[0] + 0.003  # nats; a prior of standard deviation 1 loses 0.03


def test_one_person_is_a_population_of_finite_width() -> None:
    rng = np.random.default_rng(3)
    alone = fit_population(*answers_of(np.array([[1.0, -1.0]]), 30, rng))
    assert 0.1 < alone.std().min() <= alone.std().max() < 1.0


def test_a_population_that_said_nothing_keeps_the_initial_spread() -> None:
    silent = fit_population(np.zeros((4, 2)), np.ones(4), np.arange(4))
    np.testing.assert_allclose(silent.std(), 1.0, rtol=1e-6)


def test_people_who_all_agree_without_exception_give_a_finite_prior() -> None:
    rows = np.random.default_rng(4).standard_normal((400, 2))
    unanimous = fit_population(rows, (rows[:, 0] > 0).astype(np.float64), np.repeat(np.arange(20), 20), iterations=20)
    assert unanimous.mean[0] > 3.0
    assert np.isfinite(unanimous.precision).all()


def test_the_order_of_rows_changes_no_bit_of_the_population() -> None:
    rng = np.random.default_rng(5)
    rows, answers, people = answers_of(draw_people(POPULATION, 12, rng), 6, rng)
    order = rng.permutation(len(rows))
    one = fit_population(rows, answers, people, iterations=5)
    other = fit_population(rows[order], answers[order], people[order], iterations=5)
    assert (one.mean.tobytes(), one.precision.tobytes()) == (other.mean.tobytes(), other.precision.tobytes())


def test_the_names_of_people_do_not_matter() -> None:
    rng = np.random.default_rng(6)
    rows, answers, people = answers_of(draw_people(POPULATION, 12, rng), 6, rng)
    one = fit_population(rows, answers, people, iterations=5)
    other = fit_population(rows, answers, people * -7 + 3, iterations=5)
    np.testing.assert_allclose(one.precision, other.precision, rtol=1e-9)


@pytest.mark.parametrize(("iterations", "shrinkage"), [(0, 10.0), (5, -1.0), (5, float("nan"))])
def test_settings_that_make_no_sense_are_refused(iterations: int, shrinkage: float) -> None:
    with pytest.raises(ValueError, match="iterations"):
        fit_population(np.ones((1, 1)), np.ones(1), np.zeros(1, int), iterations=iterations, shrinkage=shrinkage)


def test_a_population_without_comparisons_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fit_population(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64))


@pytest.mark.parametrize("exponent", [1.0, 0.4])
def test_fitting_people_together_equals_fitting_each_alone(exponent: float) -> None:
    rng = np.random.default_rng(7)
    prior, (rows, answers) = random_belief(rng, 4), random_answers(rng, 90, 4)
    people = rng.integers(0, 9, 90)
    fit = PeopleProblem(rows, answers, people, exponent=exponent).fit(prior)
    for index, person in enumerate(fit.ids):
        own = people == person
        alone, _ = fit_posterior(prior, rows[own], answers[own], response=ResponseModel(exponent=exponent))
        np.testing.assert_allclose(fit.means[index], alone.mean, atol=1e-9)
        np.testing.assert_allclose(fit.precisions[index], alone.precision, atol=1e-9)


def test_a_known_part_of_everyones_coefficients_is_not_counted_as_their_difference() -> None:
    rng = np.random.default_rng(9)
    shifts = rng.choice([-2.0, 2.0], (60, 2))
    rows, answers, people = answers_of(POPULATION.mean[:2] + shifts, 20, rng)
    rest = fit_population(rows, answers, people, shifts=shifts, iterations=50)
    assert rest.std().max() < 0.7  # 2.0 are shifts; 60 people of 20 answers leave a few tenths


def test_everyones_likelihood_at_common_points_sums_their_answers() -> None:
    rng = np.random.default_rng(10)
    rows, answers = random_answers(rng, 30, 3)
    points, people = rng.standard_normal((70, 3)), np.repeat(np.arange(3), 10)
    found = PeopleProblem(rows, answers, people).log_likelihoods(points)
    margins = rows[10:20] @ points[4]
    expected = answers[10:20] @ margins - np.logaddexp(0.0, margins).sum()
    assert found[1, 4] == pytest.approx(expected)


def test_one_coefficients_evidence_agrees_with_a_grid() -> None:
    prior, rows, answers = standard_belief(1), np.full((6, 1), 0.7), np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    grid = np.linspace(-8.0, 8.0, 8001)[:, None]
    density = np.exp(-(grid[:, 0] ** 2) / 2) / np.sqrt(2 * np.pi)
    likelihood = np.prod(1.0 / (1.0 + np.exp(-(2.0 * answers - 1.0) * (grid @ rows.T))), axis=1)
    problem = PeopleProblem(rows, answers, np.zeros(6, dtype=np.int64))
    exact = np.log((density * likelihood).sum() * 0.002)
    assert problem.log_evidence(prior, problem.fit(prior))[0] == pytest.approx(exact, abs=0.01)  # Laplace's own error


def test_people_who_answered_only_one_way_converge_together() -> None:
    rng = np.random.default_rng(8)
    rows = 1e3 * rng.standard_normal((80, 4))
    fit = PeopleProblem(rows, (rows.sum(axis=1) > 0).astype(np.float64), np.repeat(np.arange(8), 10)).fit(
        Posterior(np.full(4, -2.0), np.eye(4))
    )
    assert fit.converged.all()


def test_refining_ends_at_the_gaussian_whose_mean_balances_prior_and_expected_surprise() -> None:
    prior, rows, answers = standard_belief(1, 2.0), np.array([[1.5], [1.5]]), np.array([1.0, 1.0])
    problem = PeopleProblem(rows, answers, np.zeros(2, dtype=np.int64))
    fit = problem.fit(prior)
    for _ in range(50):
        fit = problem.refine(prior, fit)
    mean, variance = fit.means[0, 0], fit.covariances()[0, 0, 0]
    surprise = 1.0 - expected_sigmoid(np.array([1.5 * mean]), np.array([1.5**2 * variance]))[0]
    assert mean / 4.0 == pytest.approx(2 * 1.5 * surprise, abs=1e-4)  # 8 against 32 quadrature points


def test_refined_means_are_nearer_the_exact_posterior_than_laplace() -> None:
    prior, rows, answers = standard_belief(1, 2.0), np.full((3, 1), 1.5), np.ones(3)
    grid = np.linspace(-12.0, 16.0, 20_001)
    density = np.exp(-(grid**2) / 8) / (1 + np.exp(-1.5 * grid)) ** 3
    exact = grid @ density / density.sum()
    problem = PeopleProblem(rows, answers, np.zeros(3, dtype=np.int64))
    laplace = problem.fit(prior)
    refined = laplace
    for _ in range(20):
        refined = problem.refine(prior, refined)
    assert abs(refined.means[0, 0] - exact) < 0.2 * abs(laplace.means[0, 0] - exact)


def test_a_coin_costs_one_bit_an_answer() -> None:
    assert log_loss(np.array([0.5, 0.5]), np.array([1.0, 0.5])) == pytest.approx(np.log(2))


def test_an_answer_held_for_impossible_costs_a_finite_amount() -> None:
    assert log_loss(np.array([0.0]), np.array([1.0])) == pytest.approx(-np.log(1e-12), rel=1e-4)
