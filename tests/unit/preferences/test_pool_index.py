"""The prepared pool chooses what evaluating every pair chooses."""

from collections.abc import Callable

import numpy as np
import pytest

from app.preferences.pool_index import PoolIndex
from app.preferences.posterior import Posterior
from app.preferences.selection import Selection, d_optimal, expected_information_bits, select_pair
from tests.unit.preferences.worlds import random_belief, standard_belief, unchecked_shapes

SIZE, PAIRS = 5, 20_000
Pool = Callable[[np.random.Generator], np.ndarray]


def gaussian(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((PAIRS, SIZE))


def skewed(rng: np.random.Generator) -> np.ndarray:
    """A few rows a hundred times as long as most."""
    return gaussian(rng) * np.abs(rng.standard_t(1.5, (PAIRS, 1))) * np.array([10.0, 1.0, 1.0, 0.1, 0.01])


def sphere(rng: np.random.Generator) -> np.ndarray:
    """Rows of one length, where sorting by length says nothing."""
    rows = gaussian(rng)
    return 3.0 * rows / np.linalg.norm(rows, axis=1, keepdims=True)


def repeated(rng: np.random.Generator) -> np.ndarray:
    """Many ties: few different rows, either side first."""
    return rng.integers(-1, 2, (PAIRS, SIZE)) * 0.5


def flat(rng: np.random.Generator) -> np.ndarray:
    """Rows in a plane: the other directions never vary."""
    return gaussian(rng) * np.array([1.0, 1.0, 0.0, 0.0, 0.0])


POOLS = (gaussian, skewed, sphere, repeated, flat)


def exhaustive(belief: Posterior, rows: np.ndarray, allowed: np.ndarray) -> int:
    bits = np.where(allowed, expected_information_bits(belief, rows), -1.0)
    return int(np.flatnonzero(bits >= bits.max() * (1.0 - 1e-9))[0])


def chosen(selection: Selection | None) -> int:
    assert selection is not None
    return selection.index


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.__name__)
@pytest.mark.parametrize("spread", [0.03, 0.5, 3.0, 30.0])
def test_the_index_chooses_what_evaluating_every_pair_chooses(pool: Pool, spread: float) -> None:
    with unchecked_shapes():
        rng = np.random.default_rng(0)
        rows = pool(rng)
        index = PoolIndex.of(rows, standard_belief(SIZE))
        for _ in range(3):
            belief, allowed = random_belief(rng, SIZE, spread), rng.random(PAIRS) < rng.choice([0.01, 0.5, 1.0])
            assert chosen(index.select(belief, allowed)) == exhaustive(belief, rows, allowed)


@pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.__name__)
def test_choosing_without_an_index_evaluates_what_matters(pool: Pool) -> None:
    with unchecked_shapes():
        rng = np.random.default_rng(1)
        rows, belief, allowed = pool(rng), random_belief(rng, SIZE), rng.random(PAIRS) < 0.5
        assert chosen(select_pair(belief, rows, allowed)) == exhaustive(belief, rows, allowed)


def test_a_person_less_known_than_the_population_is_asked_the_same_as_without_an_index() -> None:
    rng = np.random.default_rng(2)
    rows, belief = gaussian(rng), random_belief(rng, SIZE, 5.0)
    index = PoolIndex.of(rows, standard_belief(SIZE, 0.01))
    assert chosen(index.select(belief, np.ones(PAIRS, dtype=np.bool_))) == exhaustive(belief, rows, np.ones(PAIRS))


def test_a_corrected_belief_is_asked_the_same_as_without_an_index() -> None:
    rng = np.random.default_rng(3)
    rows, belief = gaussian(rng), random_belief(rng, SIZE).moved(np.array([9.0, -9.0, 0.0, 0.0, 0.0]))
    index = PoolIndex.of(rows, standard_belief(SIZE))
    assert chosen(index.select(belief, np.ones(PAIRS, dtype=np.bool_))) == exhaustive(belief, rows, np.ones(PAIRS))


def test_the_belief_that_sorts_the_pool_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    rows, belief, allowed = gaussian(rng), random_belief(rng, SIZE), np.ones(PAIRS, dtype=np.bool_)
    found = {
        chosen(PoolIndex.of(rows, random_belief(rng, SIZE, spread)).select(belief, allowed)) for spread in (0.1, 9)
    }
    assert found == {exhaustive(belief, rows, allowed)}


def test_the_selection_carries_the_information_of_its_pair() -> None:
    rng = np.random.default_rng(5)
    rows, belief = gaussian(rng), random_belief(rng, SIZE)
    selection = PoolIndex.of(rows, belief).select(belief, np.ones(PAIRS, dtype=np.bool_))
    assert selection is not None
    bits = expected_information_bits(belief, rows[[selection.index]])[0]
    assert selection.expected_information_bits == pytest.approx(bits, abs=1e-12)


def test_nothing_allowed_chooses_nothing() -> None:
    index = PoolIndex.of(np.ones((3, 1)), standard_belief(1))
    assert index.select(standard_belief(1), np.zeros(3, dtype=np.bool_)) is None


def test_an_empty_pool_chooses_nothing() -> None:
    index = PoolIndex.of(np.ones((0, 1)), standard_belief(1))
    assert index.select(standard_belief(1), np.zeros(0, dtype=np.bool_)) is None


def test_pairs_of_equal_candidates_choose_the_first_allowed() -> None:
    index = PoolIndex.of(np.zeros((600, 2)), standard_belief(2))
    assert chosen(index.select(standard_belief(2), np.arange(600) >= 300)) == 300


def test_another_rule_chooses_as_without_an_index() -> None:
    rng = np.random.default_rng(6)
    rows, belief, allowed = gaussian(rng), random_belief(rng, SIZE), rng.random(PAIRS) < 0.5
    found = PoolIndex.of(rows, belief).select(belief, allowed, rule=d_optimal)
    assert found == select_pair(belief, rows, allowed, rule=d_optimal)


def test_repeats_are_asked_only_when_nothing_else_is_left() -> None:
    rows = np.array([[2.0, 0.0], [2.01, 0.0], [0.0, 1.0]])
    index, asked = PoolIndex.of(rows, standard_belief(2)), rows[[0]]
    choices = [index.select(standard_belief(2), mask, asked=asked) for mask in (np.arange(3) > 0, np.arange(3) == 1)]
    assert [chosen(one) for one in choices] == [2, 1]


def test_a_mask_of_another_length_is_refused() -> None:
    index = PoolIndex.of(np.ones((3, 1)), standard_belief(1))
    with unchecked_shapes(), pytest.raises(ValueError, match=r"\(3, 1\)"):
        index.select(standard_belief(1), np.ones(2, dtype=np.bool_))


def test_a_belief_of_another_size_is_refused() -> None:
    index = PoolIndex.of(np.ones((3, 1)), standard_belief(1))
    with unchecked_shapes(), pytest.raises(ValueError, match="2 coefficients"):
        index.select(standard_belief(2), np.ones(3, dtype=np.bool_))
