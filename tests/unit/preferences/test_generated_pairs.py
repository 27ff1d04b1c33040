"""Where to look for a telling question, and which of the written candidates to compare."""

import numpy as np
import pytest

from app.preferences.generated_pairs import most_telling_pair, uncertain_direction
from app.preferences.posterior import Posterior
from app.preferences.selection import expected_information_bits
from tests.unit.preferences.worlds import random_belief, standard_belief, unchecked_shapes


def test_the_direction_is_the_least_known_one() -> None:
    belief = Posterior(np.array([5.0, 0.0]), np.diag([1.0, 0.25]))
    np.testing.assert_allclose(uncertain_direction(belief), [0.0, 2.0], atol=1e-12)


def test_the_direction_is_one_standard_deviation_long() -> None:
    belief = random_belief(np.random.default_rng(0), 5)
    direction = uncertain_direction(belief)
    assert direction @ belief.precision @ direction == pytest.approx(1.0, abs=1e-10)


def test_what_is_never_served_is_not_asked_about() -> None:
    belief = Posterior(np.zeros(2), np.diag([0.01, 1.0]))
    np.testing.assert_allclose(uncertain_direction(belief, np.diag([1e-9, 1.0])), [0.0, 1.0], atol=1e-6)


def test_the_direction_explains_most_of_the_served_margins_variance() -> None:
    rng = np.random.default_rng(1)
    belief, served = random_belief(rng, 4), rng.standard_normal((50, 4)) * np.array([3.0, 1.0, 1.0, 0.2])
    moment = served.T @ served / 50
    found = uncertain_direction(belief, moment)
    others = rng.standard_normal((2000, 4)) @ belief.whitening
    others /= np.sqrt(np.einsum("nk,kl,nl->n", others, belief.precision, others))[:, None]
    assert found @ moment @ found >= np.einsum("nk,kl,nl->n", others, moment, others).max()


def test_the_direction_points_the_same_way_every_time() -> None:
    direction = uncertain_direction(random_belief(np.random.default_rng(2), 6))
    assert direction[np.argmax(np.abs(direction))] > 0.0


def test_the_direction_refuses_a_moment_of_another_size() -> None:
    with pytest.raises(ValueError, match="target_moment"):
        uncertain_direction(standard_belief(2), np.eye(3))


def test_the_most_telling_pair_is_the_best_of_all_pairs() -> None:
    rng = np.random.default_rng(3)
    belief, rewards = random_belief(rng, 3), rng.standard_normal((7, 3))
    found = most_telling_pair(belief, rewards)
    best = max(
        (float(expected_information_bits(belief, rewards[[first]] - rewards[[second]])[0]), first, second)
        for first in range(7)
        for second in range(first + 1, 7)
    )
    assert (found.first, found.second) == best[1:]
    assert found.bits == pytest.approx(best[0], abs=1e-12)


def test_of_equal_pairs_the_first_is_taken() -> None:
    found = most_telling_pair(standard_belief(1), np.array([[0.0], [1.0], [0.0], [1.0]]))
    assert (found.first, found.second) == (0, 1)


def test_candidates_that_are_all_equal_tell_nothing() -> None:
    assert most_telling_pair(standard_belief(2), np.ones((3, 2))).bits < 1e-15


def test_one_candidate_cannot_be_compared() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="two candidates"):
        most_telling_pair(standard_belief(2), np.ones((1, 2)))
