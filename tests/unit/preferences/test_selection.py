"""The choice of the next pair: its information against oracles, ties, and that it pays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.preferences.logistic import binary_entropy_bits, sigmoid
from app.preferences.posterior import Posterior, fit_posterior, precision
from app.preferences.priors.components import Components, points
from app.preferences.selection import (
    RULES,
    Rule,
    d_optimal,
    expected_information_bits,
    g_optimal,
    named_rule,
    pref_rule,
    random_choice,
    reference_optimal,
    select_pair,
    thompson,
)
from app.preferences.synthetic import answer, draw_people
from tests.unit.preferences.worlds import dense_expectation, random_belief, standard_belief, unchecked_shapes


# The documented accuracy of 16 points, with a little room above the errors measured.
@pytest.mark.parametrize(("std", "tolerance"), [(0.5, 1e-12), (1.0, 2e-8), (2.0, 1.2e-4), (3.0, 3e-3), (5.0, 3e-2)])
def test_information_agrees_with_dense_integration(std: float, tolerance: float) -> None:
    means = np.linspace(0.0, 4 * std + 4, 21)
    exact = [
        binary_entropy_bits(np.array([dense_expectation(sigmoid, mean, std)]))[0]
        - dense_expectation(lambda margins: binary_entropy_bits(sigmoid(margins)), mean, std)
        for mean in means
    ]
    found = [
        expected_information_bits(Posterior(np.array([mean]), np.array([[std**-2]])), np.ones((1, 1)))[0]
        for mean in means
    ]
    np.testing.assert_allclose(found, exact, atol=tolerance)


def test_information_agrees_with_drawing_coefficients() -> None:
    rng = np.random.default_rng(0)
    belief, differences = random_belief(rng, 4), rng.standard_normal((6, 4))
    draws = rng.multivariate_normal(belief.mean, belief.covariance(), 200_000)
    probabilities = sigmoid(draws @ differences.T)
    simulated = binary_entropy_bits(probabilities.mean(axis=0)) - binary_entropy_bits(probabilities).mean(axis=0)
    # Standard error of a mean of entropies at most 0.5 / sqrt(200,000) = 0.0011; five of them.
    np.testing.assert_allclose(expected_information_bits(belief, differences), simulated, atol=0.0056)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(1e-3, 1e3))
def test_an_answer_tells_between_zero_and_one_bit(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    bits = expected_information_bits(random_belief(rng, 3, spread), rng.standard_normal((50, 3)))
    assert bits.min() >= 0.0
    assert bits.max() <= 1.0


def test_swapping_the_sides_tells_the_same() -> None:
    rng = np.random.default_rng(1)
    belief, differences = random_belief(rng, 3), rng.standard_normal((2500, 3))
    np.testing.assert_allclose(
        expected_information_bits(belief, differences), expected_information_bits(belief, -differences), atol=1e-13
    )


def test_equal_candidates_tell_nothing() -> None:
    assert expected_information_bits(random_belief(np.random.default_rng(2), 3), np.zeros((1, 3)))[0] < 1e-15


def test_d_optimality_is_the_gain_in_log_determinant_of_one_more_answer() -> None:
    rng = np.random.default_rng(3)
    belief, row = random_belief(rng, 4), rng.standard_normal((1, 4))
    after = np.linalg.slogdet(precision(belief, row, belief.mean))[1]
    before = np.linalg.slogdet(belief.precision)[1]
    assert d_optimal(belief, row)[0] == pytest.approx(after - before, abs=1e-12)


def test_reference_optimality_is_the_fall_of_the_mean_served_variance() -> None:
    rng = np.random.default_rng(4)
    belief, row, served = random_belief(rng, 4), rng.standard_normal((1, 4)), rng.standard_normal((30, 4))
    after = Posterior(belief.mean, precision(belief, row, belief.mean))
    fall = belief.project(served)[1].mean() - after.project(served)[1].mean()
    assert reference_optimal(served.T @ served / 30)(belief, row)[0] == pytest.approx(fall, abs=1e-12)


def test_reference_optimality_refuses_a_moment_of_another_size() -> None:
    with pytest.raises(ValueError, match="target_moment"):
        reference_optimal(np.eye(3))(standard_belief(2), np.ones((1, 2)))


def test_g_optimality_is_the_variance_of_the_margin() -> None:
    rng = np.random.default_rng(7)
    belief, rows = random_belief(rng, 4), rng.standard_normal((5, 4))
    np.testing.assert_allclose(g_optimal(belief, rows), np.diag(rows @ belief.covariance() @ rows.T), atol=1e-12)


def test_the_published_rule_squares_the_variance_of_the_answer() -> None:
    belief = Posterior(np.array([1.0]), np.array([[0.5]]))
    chance = sigmoid(np.array([2.0]))[0]
    expected = (chance * (1.0 - chance)) ** 2 * 4.0 * 2.0
    assert pref_rule(belief, np.array([[2.0]]))[0] == pytest.approx(expected, abs=1e-14)


def test_thompson_asks_where_two_drawn_people_disagree() -> None:
    kinds = Components(np.array([0.5, 0.5]), np.array([[3.0, 1.0], [-3.0, 1.0]]), np.zeros((1, 0, 2)))
    rule = thompson(np.random.default_rng(0))
    gains = np.max([rule(kinds, np.eye(2)) for _ in range(10)], axis=0)
    assert gains[0] > 0.9
    assert gains[1] == 0.0


def test_thompson_draws_anew_at_each_use() -> None:
    rng = np.random.default_rng(8)
    belief, rows, rule = random_belief(rng, 3), rng.standard_normal((4, 3)), thompson(rng)
    assert (rule(belief, rows) != rule(belief, rows)).all()


def two_kinds(rng: np.random.Generator, size: int) -> Components:
    factors = 0.3 * rng.standard_normal((2, size, size))
    return Components(np.array([0.6, 0.4]), rng.standard_normal((2, size)), factors)


@pytest.mark.parametrize("name", RULES)
def test_every_named_rule_works_for_every_family(name: str) -> None:
    rng = np.random.default_rng(9)
    rule = named_rule(name, rng=rng, target_moment=np.eye(3))
    for belief in (random_belief(rng, 3), two_kinds(rng, 3)):
        gains = rule(belief, rng.standard_normal((2000, 3)))
        assert gains.shape == (2000,)
        assert (gains >= 0.0).all()


def test_the_information_in_a_mixture_agrees_with_drawing_coefficients() -> None:
    rng = np.random.default_rng(10)
    belief, differences = two_kinds(rng, 4), rng.standard_normal((6, 4))
    probabilities = sigmoid(belief.draw(200_000, rng) @ differences.T)
    simulated = binary_entropy_bits(probabilities.mean(axis=0)) - binary_entropy_bits(probabilities).mean(axis=0)
    np.testing.assert_allclose(expected_information_bits(belief, differences), simulated, atol=0.0056)


def test_a_mixture_is_asked_what_tells_most() -> None:
    rng = np.random.default_rng(11)
    belief, differences = two_kinds(rng, 3), rng.standard_normal((3000, 3))
    selection = select_pair(belief, differences, np.ones(3000, dtype=np.bool_))
    assert selection is not None
    assert selection.index == np.argmax(expected_information_bits(belief, differences))


def test_an_unknown_rule_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ValueError, match='no rule "best"; choose one of expected_information'):
        named_rule("best")


@pytest.mark.parametrize(("name", "missing"), [("v_optimal", "target_moment"), ("thompson", "rng"), ("random", "rng")])
def test_a_rule_without_what_it_needs_is_refused(name: str, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        named_rule(name)


def test_a_near_duplicate_of_an_asked_pair_waits_for_the_others() -> None:
    rows = np.array([[2.0, 0.0], [2.01, 0.0], [0.0, 1.0]])
    selection = select_pair(standard_belief(2), rows, np.arange(3) > 0, asked=rows[:1])
    assert selection is not None
    assert selection.index == 2


def test_a_near_duplicate_is_asked_when_nothing_else_is_left() -> None:
    rows = np.array([[2.0], [2.01]])
    selection = select_pair(standard_belief(1), rows, np.array([False, True]), asked=rows[:1])
    assert selection is not None
    assert selection.index == 1


def test_only_allowed_pairs_are_chosen() -> None:
    differences = np.array([[5.0], [0.1], [1.0]])
    selection = select_pair(standard_belief(1), differences, np.array([False, True, True]))
    assert selection is not None
    assert selection.index == 2


def test_nothing_allowed_chooses_nothing() -> None:
    assert select_pair(standard_belief(1), np.ones((3, 1)), np.zeros(3, dtype=np.bool_)) is None


def test_the_lowest_of_equal_pairs_is_chosen() -> None:
    rng = np.random.default_rng(5)
    differences = np.tile(rng.standard_normal((1, 7)), (1037, 1)) * rng.choice([-1.0, 1.0], (1037, 1))
    selection = select_pair(random_belief(rng, 7), differences, np.arange(1037) >= 13)
    assert selection is not None
    assert selection.index == 13


def test_the_selection_carries_the_information_of_its_pair_under_every_rule() -> None:
    rng = np.random.default_rng(6)
    belief, differences = random_belief(rng, 3), rng.standard_normal((40, 3))
    selection = select_pair(belief, differences, np.ones(40, dtype=np.bool_), rule=random_choice(rng))
    assert selection is not None
    bits = expected_information_bits(belief, differences)[selection.index]
    assert selection.expected_information_bits == pytest.approx(bits, abs=1e-13)


def test_a_mask_of_another_length_is_refused() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="3 pairs"):
        select_pair(standard_belief(1), np.ones((3, 1)), np.ones(2, dtype=np.bool_))


def _accuracy_after_ten(rule: Rule, seed: int) -> float:
    """Share of fresh choices predicted of people who answered ten questions chosen by ``rule`` among 300."""
    rng = np.random.default_rng(seed)
    population = standard_belief(8)
    differences, fresh = rng.standard_normal((300, 8)), rng.standard_normal((200, 8))
    right = []
    for coefficients in draw_people(population, 20, rng):
        belief, asked = population, np.zeros(300, dtype=np.bool_)
        answers = answer(coefficients, differences, rng)
        for _ in range(10):
            selection = select_pair(belief, differences, ~asked, rule=rule)
            assert selection is not None
            asked[selection.index] = True
            belief, _ = fit_posterior(population, differences[asked], answers[asked])
        right.append((fresh @ belief.mean > 0.0) == (fresh @ coefficients > 0.0))
    return float(np.mean(right))


@pytest.fixture(scope="module")
def accuracy_of_random_questions() -> list[float]:
    with unchecked_shapes():
        return [_accuracy_after_ten(random_choice(np.random.default_rng(seed)), seed) for seed in range(2)]


@pytest.mark.parametrize("rule", [expected_information_bits, d_optimal], ids=["information", "d_optimal"])
def test_ten_chosen_questions_tell_more_than_ten_random_ones(
    rule: Rule, accuracy_of_random_questions: list[float]
) -> None:
    with unchecked_shapes():
        gains = [_accuracy_after_ten(rule, seed) - random for seed, random in enumerate(accuracy_of_random_questions)]
    assert min(gains) > 0.03  # at least 0.08 measured


@pytest.mark.parametrize("seed", range(6))
def test_the_shortlist_of_a_mixture_misses_next_to_no_information(seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((4000, 4))
    belief = points(np.zeros(60), 2.0 * rng.dirichlet(np.full(4, 0.2), 60))
    chosen = select_pair(belief, rows, np.ones(len(rows), dtype=bool))
    assert chosen.expected_information_bits >= 0.97 * expected_information_bits(belief, rows).max()
