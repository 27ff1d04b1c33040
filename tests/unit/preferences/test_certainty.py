"""Certainty as the accuracy it promises."""

import numpy as np
import pytest

from app.preferences.certainty import certainty
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


def test_the_scale_multiplies_up_to_one() -> None:
    belief = Posterior(np.array([4.0]), np.array([[1e6]]))
    raw = certainty(belief, np.ones((1, 1)))
    assert certainty(belief, np.ones((1, 1)), 0.5) == pytest.approx(raw / 2)
    assert certainty(belief, np.ones((1, 1)), 5.0) == 1.0


def test_no_reference_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        certainty(standard_belief(2), np.zeros((0, 2)))


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_a_scale_that_is_no_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="scale"):
        certainty(standard_belief(2), np.ones((1, 2)), scale)
