"""Weights that fade with age, and response models that are none."""

import numpy as np
import pytest

from app.preferences.answers import Answers, ResponseModel, recency_weights


def test_an_answers_weight_halves_every_half_life() -> None:
    np.testing.assert_allclose(recency_weights(np.array([0.0, 30.0, 60.0]), 30.0), [1.0, 0.5, 0.25])


def test_without_a_half_life_every_answer_counts_fully() -> None:
    np.testing.assert_array_equal(recency_weights(np.array([0.0, 1e4]), None), [1.0, 1.0])


def test_an_answer_from_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        recency_weights(np.array([-1.0]), 30.0)


@pytest.mark.parametrize("half_life", [0.0, -1.0, float("nan")])
def test_a_half_life_that_is_none_is_refused(half_life: float) -> None:
    with pytest.raises(ValueError, match="half_life_days"):
        recency_weights(np.array([1.0]), half_life)


def test_answers_count_fully_unless_told_otherwise() -> None:
    assert Answers.of(np.ones((2, 3)), np.ones(2)).weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"exponent": -1.0}, "exponent"),
        ({"exponent": float("nan")}, "exponent"),
        ({"lapse": 1.0}, "lapse"),
        ({"tie_strength": 0.0}, "tie_strength"),
    ],
)
def test_a_response_model_that_is_none_is_refused(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ResponseModel(**settings)
