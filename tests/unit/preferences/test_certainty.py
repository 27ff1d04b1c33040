"""Certainty as the accuracy it promises."""

import numpy as np
import pytest

from app.preferences.certainty import CertaintyCurve, certainty, fit_certainty_curve
from app.preferences.logistic import preference_probability, sigmoid
from app.preferences.posterior import Posterior, fit_posterior
from app.preferences.synthetic import answer, draw_people
from tests.unit.preferences.worlds import random_belief, standard_belief, unchecked_shapes


def test_nothing_known_is_a_coin_flip() -> None:
    assert certainty(standard_belief(3), np.random.default_rng(0).standard_normal((50, 3))) < 1e-14


def test_a_person_known_exactly_is_as_predictable_as_their_own_choices() -> None:
    belief = Posterior(np.array([1.5]), np.array([[1e12]]))
    assert certainty(belief, np.array([[1.0], [-1.0]])) == pytest.approx(2 * sigmoid(np.array([1.5]))[0] - 1, abs=1e-9)


def test_the_side_shown_first_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    belief, reference = random_belief(rng, 3), rng.standard_normal((50, 3))
    assert certainty(belief, reference) == pytest.approx(certainty(belief, -reference), abs=1e-13)


def test_certainty_is_the_accuracy_realised_on_fresh_choices() -> None:
    rng = np.random.default_rng(2)
    population, reference = random_belief(rng, 3), rng.standard_normal((400, 3))
    claimed, realised = [], []
    with unchecked_shapes():
        for coefficients in draw_people(population, 150, rng):
            asked = rng.standard_normal((10, 3))
            belief, _ = fit_posterior(population, asked, answer(coefficients, asked, rng))
            right = (preference_probability(belief, reference) > 0.5) == (answer(coefficients, reference, rng) > 0.5)
            claimed.append(certainty(belief, reference))
            realised.append(2 * right.mean() - 1)
    # 150 people: the mean of differences has a standard error near 0.009; Laplace's own error comes on top.
    assert np.mean(claimed) == pytest.approx(np.mean(realised), abs=0.03)


def test_the_curve_maps_the_claim_to_what_came_true() -> None:
    belief, reference = Posterior(np.array([4.0]), np.array([[1e6]])), np.ones((1, 1))
    curve = CertaintyCurve(np.array([0.0, 1.0]), np.array([0.1, 0.6]))
    assert certainty(belief, reference, curve) == pytest.approx(0.1 + 0.5 * certainty(belief, reference))


def test_no_reference_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        certainty(standard_belief(2), np.zeros((0, 2)))


@pytest.mark.parametrize(
    ("raw", "realised", "complaint"),
    [
        ([], [], "one of each"),
        ([0.0, 1.0], [0.0], "one of each"),
        ([0.0, 1.2], [0.0, 1.0], "between 0"),
        ([0.0, np.nan], [0.0, 1.0], "between 0"),
        ([0.5, 0.5], [0.0, 1.0], "must rise"),
        ([0.0, 1.0], [0.9, 0.2], "must not fall"),
    ],
)
def test_a_curve_that_is_no_map_is_refused(raw: list[float], realised: list[float], complaint: str) -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match=complaint):
        CertaintyCurve(np.array(raw, dtype=np.float64), np.array(realised, dtype=np.float64))


def test_no_stages_leave_claims_as_they_are() -> None:
    curve = fit_certainty_curve(np.zeros(0), np.zeros(0), np.zeros(0))
    assert curve(0.37) == pytest.approx(0.37)


def test_few_choices_hardly_move_the_claim() -> None:
    curve = fit_certainty_curve(np.array([0.5]), np.array([-1.0]), np.array([2.0]))
    assert curve(0.5) == pytest.approx(0.5 - 1.5 * 2.0 / 52.0)


def test_a_fitted_curve_never_falls_even_if_outcomes_do() -> None:
    raw = np.linspace(0.0, 1.0, 200)
    curve = fit_certainty_curve(raw, np.sin(9.0 * raw), np.full(200, 100.0))
    values = [curve(one) for one in raw]
    assert (np.diff(values) >= 0.0).all()


def test_told_certainty_comes_true_on_people_it_was_not_fitted_on() -> None:
    rng = np.random.default_rng(3)
    raw = rng.uniform(0.0, 1.0, 4000)  # stages of people; what comes true is a bent curve of the claim
    realised = 2.0 * rng.binomial(40, 0.5 + 0.5 * raw**2 * 0.9) / 40 - 1.0
    curve = fit_certainty_curve(raw[:2000], realised[:2000], np.full(2000, 40.0))
    told = np.array([curve(one) for one in raw[2000:]])
    for level in (0.2, 0.5, 0.8):
        near = np.abs(told - level) < 0.1
        assert realised[2000:][near].mean() == pytest.approx(told[near].mean(), abs=0.03)


@pytest.mark.parametrize(
    ("raw", "realised", "choices"),
    [([1.5], [0.0], [1.0]), ([0.5], [2.0], [1.0]), ([0.5], [0.0], [-1.0]), ([0.5], [0.0], [1.0, 1.0])],
)
def test_stages_that_are_no_certainties_are_refused(
    raw: list[float], realised: list[float], choices: list[float]
) -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="pass"):
        fit_certainty_curve(np.array(raw), np.array(realised), np.array(choices))
