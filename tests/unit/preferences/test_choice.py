"""Which candidate a person gets: never below the population's unless it is likely better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.preferences.choice import CAUTION, choose_candidate, contributions, rank_candidates, reward_moments
from app.preferences.posterior import Posterior
from app.preferences.synthetic import draw_people
from tests.unit.preferences.worlds import random_belief, standard_belief

POPULATION = Posterior(np.array([1.0, 0.0]), np.eye(2))
REWARDS = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 2.0]])  # the population likes 1 best


def person(mean: list[float], std: float) -> Posterior:
    return Posterior(np.array(mean), np.eye(2) / std**2)


def test_a_person_without_answers_gets_the_populations_choice() -> None:
    choice = choose_candidate(POPULATION, POPULATION, REWARDS)
    assert (choice.index, choice.generic_index, choice.fell_back) == (1, 1, False)


def test_a_person_known_well_gets_their_own_favourite() -> None:
    choice = choose_candidate(person([0.0, 1.0], 0.01), POPULATION, REWARDS)
    assert (choice.index, choice.generic_index, choice.fell_back) == (2, 1, False)


def test_an_unsure_posterior_falls_back_to_the_populations_choice() -> None:
    choice = choose_candidate(person([0.0, 0.1], 1.0), POPULATION, REWARDS)
    assert (choice.index, choice.fell_back) == (1, True)


def test_the_fallback_has_no_margin_over_itself() -> None:
    choice = choose_candidate(person([0.0, 0.1], 1.0), POPULATION, REWARDS)
    assert (choice.margin_mean, choice.margin_std) == (0.0, 0.0)


def test_the_margin_is_that_of_the_chosen_over_the_generic_candidate() -> None:
    choice = choose_candidate(person([0.0, 1.0], 0.1), POPULATION, REWARDS)
    assert choice.margin_mean == pytest.approx(2.0)
    assert choice.margin_std == pytest.approx(0.1 * np.sqrt(2**2 + 2**2))


def test_correlated_rewards_cancel_in_the_margin() -> None:
    shared = Posterior(np.array([0.0, 0.2]), np.diag([1e-6, 1e6]))  # nothing known of what all candidates share
    rewards = np.array([[3.0, 0.0], [3.0, 1.0]])
    assert choose_candidate(shared, POPULATION, rewards).index == 1


@pytest.mark.parametrize(("margin_in_stds", "index"), [(0.9 * CAUTION, 0), (1.1 * CAUTION, 1)])
def test_a_candidate_needs_a_margin_of_the_documented_caution(margin_in_stds: float, index: int) -> None:
    belief = Posterior(np.array([margin_in_stds]), np.ones((1, 1)))
    prior = Posterior(np.array([-1.0]), np.ones((1, 1)))
    assert choose_candidate(belief, prior, np.array([[0.0], [1.0]])).index == index


def test_more_strength_needs_less_certainty() -> None:
    unsure = person([0.0, 0.1], 1.0)
    assert choose_candidate(unsure, POPULATION, REWARDS, strength=10.0).index == 2


def test_no_strength_is_the_populations_choice() -> None:
    choice = choose_candidate(person([0.0, 5.0], 1e-6), POPULATION, REWARDS, strength=0.0)
    assert (choice.index, choice.fell_back) == (1, True)


def test_the_bound_serves_people_no_worse_than_the_population_on_average() -> None:
    rng = np.random.default_rng(0)
    unsure = Posterior(np.array([0.2, 0.8]), np.eye(2))
    people = draw_people(unsure, 400, rng)
    gains = []
    for coefficients in people:
        rewards = rng.standard_normal((4, 2))
        choice = choose_candidate(unsure, POPULATION, rewards)
        gains.append((rewards[choice.index] - rewards[choice.generic_index]) @ coefficients)
    assert np.mean(gains) > 3 * np.std(gains) / np.sqrt(len(gains))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), strength=st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_the_first_of_the_ranking_is_the_choice(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    belief, prior, rewards = random_belief(rng, 3), random_belief(rng, 3), rng.standard_normal((6, 3))
    order = rank_candidates(belief, prior, rewards, strength=strength)
    assert order[0] == choose_candidate(belief, prior, rewards, strength=strength).index
    assert sorted(order) == list(range(6))


def test_equal_candidates_keep_their_order_after_the_populations_favourite() -> None:
    rewards = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    order = rank_candidates(person([0.0, 0.0], 1e-9), POPULATION, rewards)
    assert order.tolist() == [2, 3, 0, 1]


def test_reward_moments_follow_the_belief() -> None:
    means, stds = reward_moments(person([1.0, 2.0], 0.5), REWARDS)
    np.testing.assert_allclose(means, [2.0, 1.0, 3.0])
    np.testing.assert_allclose(stds, 0.5 * np.sqrt([1.0, 1.0, 5.0]))


def test_contributions_add_up_to_the_margin() -> None:
    belief = person([0.0, 1.0], 0.01)
    choice = choose_candidate(belief, POPULATION, REWARDS)
    parts = contributions(belief, REWARDS[choice.index], REWARDS[choice.generic_index])
    assert parts.sum() == pytest.approx(choice.margin_mean)


def test_a_contribution_is_coefficient_times_difference() -> None:
    parts = contributions(person([2.0, -1.0], 1.0), np.array([1.0, 3.0]), np.array([0.5, 1.0]))
    np.testing.assert_allclose(parts, [1.0, -2.0])


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        choose_candidate(standard_belief(2), POPULATION, np.zeros((0, 2)))


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_a_strength_below_zero_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        choose_candidate(standard_belief(2), POPULATION, REWARDS, strength=strength)


def test_rewards_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        choose_candidate(standard_belief(2), POPULATION, np.full((2, 2), np.nan))
