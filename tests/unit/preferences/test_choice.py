"""Which candidate a person gets: never below the population's unless it is likely better."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.preferences.choice import (
    CAUTION,
    SoftOrder,
    cautious_coefficients,
    change_probability,
    contributions,
    draw_order,
    kl_bound,
    rank_candidates,
    reward_moments,
    soft_kl,
)
from app.preferences.posterior import Posterior
from app.preferences.synthetic import draw_people
from tests.unit.preferences.worlds import random_belief, standard_belief

POPULATION = Posterior(np.array([1.0, 0.0]), np.eye(2))
REWARDS = np.array([[0.0, 1.0], [1.0, 0.0], [-1.0, 2.0]])  # the population likes 1 best


def person(mean: list[float], std: float) -> Posterior:
    return Posterior(np.array(mean), np.eye(2) / std**2)


def first(posterior: Posterior, prior: Posterior = POPULATION, rewards: np.ndarray = REWARDS, **options: float) -> int:
    return int(rank_candidates(posterior, prior, rewards, **options)[0])


def test_a_person_without_answers_gets_the_populations_choice() -> None:
    assert first(POPULATION) == 1


def test_a_person_known_well_gets_their_own_favourite() -> None:
    assert first(person([0.0, 1.0], 0.01)) == 2


def test_an_unsure_posterior_falls_back_to_the_populations_choice() -> None:
    assert first(person([0.0, 0.1], 1.0)) == 1


def test_correlated_rewards_cancel_in_the_margin() -> None:
    shared = Posterior(np.array([0.0, 0.2]), np.diag([1e-6, 1e6]))  # nothing known of what all candidates share
    assert first(shared, rewards=np.array([[3.0, 0.0], [3.0, 1.0]])) == 1


@pytest.mark.parametrize(("margin_in_stds", "index"), [(0.9 * CAUTION, 0), (1.1 * CAUTION, 1)])
def test_a_candidate_needs_a_margin_of_the_documented_caution(margin_in_stds: float, index: int) -> None:
    belief = Posterior(np.array([margin_in_stds]), np.ones((1, 1)))
    prior = Posterior(np.array([-1.0]), np.ones((1, 1)))
    assert first(belief, prior, np.array([[0.0], [1.0]])) == index


def test_more_strength_needs_less_certainty() -> None:
    assert first(person([0.0, 0.1], 1.0), strength=10.0) == 2


def test_no_strength_is_the_populations_choice() -> None:
    assert first(person([0.0, 5.0], 1e-6), strength=0.0) == 1


def test_the_bound_serves_people_no_worse_than_the_population_on_average() -> None:
    rng = np.random.default_rng(0)
    unsure = Posterior(np.array([0.2, 0.8]), np.eye(2))
    people = draw_people(unsure, 400, rng)
    gains = []
    for coefficients in people:
        rewards = rng.standard_normal((4, 2))
        generic = int(np.argmax(rewards @ POPULATION.mean))
        gains.append((rewards[first(unsure, rewards=rewards)] - rewards[generic]) @ coefficients)
    assert np.mean(gains) > 3 * np.std(gains) / np.sqrt(len(gains))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), strength=st.sampled_from([0.3, 1.0, 5.0]))
def test_candidates_are_in_the_order_of_their_cautious_bounds(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    belief, prior, rewards = random_belief(rng, 3), random_belief(rng, 3), rng.standard_normal((6, 3))
    means, stds = reward_moments(belief, rewards - rewards[np.argmax(rewards @ prior.mean)])
    bounds = (means - CAUTION / strength * stds)[rank_candidates(belief, prior, rewards, strength=strength)]
    assert (np.diff(bounds) <= 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), strength=st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_every_candidate_is_ranked_once(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    belief, prior, rewards = random_belief(rng, 3), random_belief(rng, 3), rng.standard_normal((6, 3))
    assert sorted(rank_candidates(belief, prior, rewards, strength=strength)) == list(range(6))


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
    parts = contributions(belief, REWARDS[2], REWARDS[1])
    means, _ = reward_moments(belief, REWARDS)
    assert parts.sum() == pytest.approx(means[2] - means[1])


def test_a_contribution_is_coefficient_times_difference() -> None:
    parts = contributions(person([2.0, -1.0], 1.0), np.array([1.0, 3.0]), np.array([0.5, 1.0]))
    np.testing.assert_allclose(parts, [1.0, -2.0])


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        rank_candidates(standard_belief(2), POPULATION, np.zeros((0, 2)))


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_a_strength_below_zero_is_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        rank_candidates(standard_belief(2), POPULATION, REWARDS, strength=strength)


def test_rewards_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        rank_candidates(standard_belief(2), POPULATION, np.full((2, 2), np.nan))


def test_the_choice_between_two_changes_with_the_chance_of_the_other_sign() -> None:
    belief = Posterior(np.array([1.0]), np.ones((1, 1)))  # the margin is positive with probability 0.841
    found = change_probability(belief, np.array([[[0.0], [2.0]]]), draws=20_000)
    assert found == pytest.approx(0.1587, abs=0.013)  # five standard errors


def test_a_person_known_exactly_is_served_the_same_for_ever() -> None:
    sets = np.random.default_rng(1).standard_normal((5, 6, 2))
    assert change_probability(person([0.3, -1.0], 1e-9), sets) == 0.0


def test_equal_candidates_are_no_change() -> None:
    assert change_probability(person([0.1, 0.2], 3.0), np.full((2, 4, 2), 0.7)) == 0.0


def test_a_single_candidate_is_no_change() -> None:
    assert change_probability(person([0.1, 0.2], 3.0), np.ones((2, 1, 2))) == 0.0


def test_the_chance_of_a_change_is_the_mean_over_sets() -> None:
    rng = np.random.default_rng(2)
    belief, sets = random_belief(rng, 3), rng.standard_normal((4, 5, 3))
    alone = [change_probability(belief, sets[[index]]) for index in range(4)]
    assert change_probability(belief, sets) == pytest.approx(np.mean(alone), abs=1e-12)


def test_the_same_belief_has_the_same_chance_of_a_change() -> None:
    rng = np.random.default_rng(3)
    belief, sets = random_belief(rng, 3), rng.standard_normal((4, 5, 3))
    assert change_probability(belief, sets) == change_probability(belief, sets)


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2)])
def test_the_chance_of_a_change_needs_candidates(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        change_probability(POPULATION, np.ones(shape))


def test_the_chance_of_a_change_needs_candidates_of_the_same_basis() -> None:
    with pytest.raises(ValueError, match="need"):
        change_probability(POPULATION, np.ones((1, 2, 3)))


def drawn(temperature: float, seed: int = 0, rewards: np.ndarray = REWARDS) -> SoftOrder:
    belief = person([0.2, 0.5], 0.01)
    rng = np.random.default_rng(seed)
    return draw_order(belief, POPULATION, rewards, strength=1.0, temperature=temperature, rng=rng)


def test_candidates_are_drawn_in_proportion_to_the_exponential_of_their_bounds() -> None:
    means, stds = reward_moments(person([0.2, 0.5], 0.01), REWARDS - REWARDS[1])
    wanted = np.exp((means - CAUTION * stds) / 0.7)
    found = np.bincount([drawn(0.7, seed).order[0] for seed in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(found, wanted / wanted.sum(), atol=0.025)  # three standard errors of a share of 4000


def test_a_cold_draw_is_the_ranking() -> None:
    belief = person([0.2, 0.5], 0.01)
    assert drawn(1e-6).order.tolist() == rank_candidates(belief, POPULATION, REWARDS).tolist()
    assert drawn(1e-6).entropy == pytest.approx(0.0, abs=1e-12)


def test_a_hot_draw_is_uniform() -> None:
    assert drawn(1e6).entropy == pytest.approx(np.log(3), abs=1e-6)


def test_the_same_seed_draws_the_same_order() -> None:
    assert drawn(1.0, 7).order.tolist() == drawn(1.0, 7).order.tolist()


@pytest.mark.parametrize(("strength", "temperature"), [(0.0, 1.0), (1.0, 0.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_a_draw_without_strength_or_temperature_is_refused(strength: float, temperature: float) -> None:
    with pytest.raises(ValueError, match="both must be positive"):
        draw_order(
            POPULATION,
            POPULATION,
            REWARDS,
            strength=strength,
            temperature=temperature,
            rng=np.random.default_rng(0),
        )


def divergences(scores: np.ndarray, chances: np.ndarray, n: int, temperature: float) -> tuple[float, float]:
    """Exactly, over all sets of ``n`` draws: KL of the chosen outcome from ``chances``, and the mean of ``soft_kl``."""
    chosen, bound = np.zeros_like(chances), 0.0
    for outcomes in product(range(len(chances)), repeat=n):
        places = list(outcomes)
        weights = np.exp((scores[places] - scores[places].max()) / temperature)
        weights /= weights.sum()
        chance = chances[places].prod()
        np.add.at(chosen, places, chance * weights)
        bound += chance * soft_kl(n, float(-(weights * np.log(np.maximum(weights, 1e-300))).sum()))
    return float((chosen * np.log(chosen / chances)).sum()), bound


@pytest.mark.parametrize("temperature", [0.05, 0.5, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_choosing_softly_diverges_by_no_more_than_either_bound(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    exact, soft = divergences(rng.normal(size=5), rng.dirichlet(np.ones(5)), 4, temperature)
    assert exact <= min(kl_bound(4), soft) + 1e-9


def test_choosing_one_of_one_does_not_diverge() -> None:
    assert kl_bound(1) == 0.0


def test_choosing_among_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        kl_bound(0)


@pytest.mark.parametrize("strength", [5e-324, 1e-320, 1e-300])
def test_no_strength_is_too_small_to_put_the_populations_favourite_first(strength: float) -> None:
    assert first(person([-5.0, 5.0], 0.5), strength=strength) == 1


@pytest.mark.parametrize("strength", [5e-324, 1.0, 1e300])
@pytest.mark.parametrize("temperature", [5e-324, 1e-300])
def test_no_temperature_is_too_small_to_give_the_order_of_the_bounds(strength: float, temperature: float) -> None:
    taste, rng = person([-1.0, 2.0], 0.5), np.random.default_rng(0)
    soft = draw_order(taste, POPULATION, REWARDS, strength=strength, temperature=temperature, rng=rng)
    assert soft.order[0] == first(taste, strength=strength)
    assert soft.entropy == 0.0


def test_cautious_coefficients_lie_as_far_from_the_person_as_caution_goes() -> None:
    taste = person([4.0, 4.0], 0.5)  # 5 to the population's mean, 10 standard deviations
    assert cautious_coefficients(taste, POPULATION, strength=0.02) == pytest.approx([2.5, 2.0])


@pytest.mark.parametrize("strength", [5e-324, 1e-3, 0.01])
def test_cautious_coefficients_are_the_populations_where_they_may_be(strength: float) -> None:
    taste = person([4.0, 4.0], 0.5)
    assert cautious_coefficients(taste, POPULATION, strength=strength) == pytest.approx(POPULATION.mean)


def test_cautious_coefficients_of_someone_unknown_are_the_populations() -> None:
    assert cautious_coefficients(POPULATION, POPULATION, strength=1.0) == pytest.approx(POPULATION.mean)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("nan")])
def test_cautious_coefficients_need_a_strength(strength: float) -> None:
    with pytest.raises(ValueError, match="strength"):
        cautious_coefficients(POPULATION, POPULATION, strength=strength)


@pytest.mark.parametrize("strength", [0.05, 1.0])
def test_no_margin_under_cautious_coefficients_is_below_the_bound_that_ranks(strength: float) -> None:
    taste = person([-1.0, 2.0], 0.5)
    chosen = cautious_coefficients(taste, POPULATION, strength=strength)
    differences = REWARDS - REWARDS[1]
    means, stds = reward_moments(taste, differences)
    assert (differences @ chosen >= means - CAUTION / strength * stds - 1e-12).all()
