"""How likely answers are: probabilities add up, slopes are slopes, and nothing breaks in the tails."""

import numpy as np
import pytest

from app.preferences.answers import ResponseModel
from app.preferences.likelihood import answer_terms, log_likelihood

MODELS = [
    ResponseModel(),
    ResponseModel(tie_strength=0.5),
    ResponseModel(lapse=0.1),
    ResponseModel(lapse=0.1, tie_strength=2.0),
]
MARGINS = np.linspace(-12.0, 12.0, 49)


def probability(margins: np.ndarray, answer: float, response: ResponseModel) -> np.ndarray:
    return np.exp(log_likelihood(margins, np.full_like(margins, answer), response))


@pytest.mark.parametrize("response", MODELS)
def test_the_probabilities_of_all_answers_add_up_to_one(response: ResponseModel) -> None:
    answers = (0.0, 1.0) if response.tie_strength is None else (0.0, 0.5, 1.0)
    total = sum(probability(MARGINS, answer, response) for answer in answers)
    np.testing.assert_allclose(total, 1.0, rtol=1e-13)


def test_without_lapses_and_ties_the_first_side_follows_the_logistic() -> None:
    np.testing.assert_allclose(probability(MARGINS, 1.0, ResponseModel()), 1.0 / (1.0 + np.exp(-MARGINS)), rtol=1e-13)


def test_ties_follow_davidson() -> None:
    expected = 0.5 / (np.exp(MARGINS / 2) + np.exp(-MARGINS / 2) + 0.5)
    np.testing.assert_allclose(probability(MARGINS, 0.5, ResponseModel(tie_strength=0.5)), expected, rtol=1e-13)


def test_a_side_is_never_less_likely_than_half_the_lapse_rate() -> None:
    assert probability(np.array([-800.0]), 1.0, ResponseModel(lapse=0.1))[0] == pytest.approx(0.05)


@pytest.mark.parametrize("response", MODELS)
@pytest.mark.parametrize("answer", [0.0, 0.5, 1.0])
def test_slopes_agree_with_finite_differences(response: ResponseModel, answer: float) -> None:
    answers, step = np.full_like(MARGINS, answer), 1e-5
    numeric = (
        log_likelihood(MARGINS - step, answers, response) - log_likelihood(MARGINS + step, answers, response)
    ) / (2 * step)
    # Rounding of losses up to 12 by step: 1e-15 * 12 / 1e-5.
    np.testing.assert_allclose(answer_terms(MARGINS, answers, response).slopes, numeric, atol=2e-9)


@pytest.mark.parametrize("response", MODELS)
def test_information_is_the_expected_squared_slope(response: ResponseModel) -> None:
    answers = (0.0, 1.0) if response.tie_strength is None else (0.0, 0.5, 1.0)
    expected = sum(
        probability(MARGINS, answer, response)
        * answer_terms(MARGINS, np.full_like(MARGINS, answer), response).slopes ** 2
        for answer in answers
    )
    found = answer_terms(MARGINS, np.ones_like(MARGINS), response).information
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("response", MODELS)
@pytest.mark.parametrize("answer", [0.0, 0.5, 1.0])
def test_terms_are_finite_at_any_margin(response: ResponseModel, answer: float) -> None:
    terms = answer_terms(np.array([-1e6, -800.0, 0.0, 800.0, 1e6]), np.full(5, answer), response)
    assert np.isfinite([terms.losses, terms.slopes, terms.information]).all()


@pytest.mark.parametrize("response", MODELS)
def test_swapping_the_sides_changes_no_bit(response: ResponseModel) -> None:
    answers = np.random.default_rng(0).choice([0.0, 0.5, 1.0], len(MARGINS))
    one, other = answer_terms(MARGINS, answers, response), answer_terms(-MARGINS, 1.0 - answers, response)
    np.testing.assert_array_equal(one.losses, other.losses)
    np.testing.assert_array_equal(one.slopes, -other.slopes)
