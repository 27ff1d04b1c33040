"""Which pairs ask what was asked before."""

import numpy as np
import pytest

from app.preferences.near_duplicates import DUPLICATE_DISTANCE, near_duplicates
from tests.unit.preferences.worlds import unchecked_shapes

ASKED = np.array([[3.0, 4.0], [0.0, 2.0]])


def repeated(row: list[float], asked: np.ndarray = ASKED) -> bool:
    return bool(near_duplicates(np.array([row]), asked)[0])


def test_the_pair_itself_repeats() -> None:
    assert repeated([3.0, 4.0])


def test_the_pair_with_its_sides_swapped_repeats() -> None:
    assert repeated([-3.0, -4.0])


@pytest.mark.parametrize(("share", "repeats"), [(0.99, True), (1.01, False)])
def test_the_documented_distance_separates(share: float, repeats: bool) -> None:
    step = share * DUPLICATE_DISTANCE * 5.0 * np.array([0.8, -0.6])  # across, so that the other row stays the longer
    assert repeated(list(np.array([3.0, 4.0]) * 0.999 + step)) is repeats


def test_the_same_direction_at_another_length_is_another_question() -> None:
    assert not repeated([1.5, 2.0])


def test_equal_rows_of_any_size_repeat() -> None:
    rows = np.random.default_rng(0).standard_normal((200, 7)) * 10.0 ** np.linspace(-9, 9, 200)[:, None]
    assert all(near_duplicates(rows[[i]], rows[[i]], distance=0.0)[0] for i in range(200))


def test_nothing_repeats_nothing() -> None:
    assert not repeated([1.0, 1.0], np.empty((0, 2)))


def test_a_pair_of_equal_candidates_repeats_only_another_such() -> None:
    assert not repeated([0.0, 0.0])
    assert repeated([0.0, 0.0], np.zeros((1, 2)))


def test_rows_of_another_basis_are_refused() -> None:
    with unchecked_shapes(), pytest.raises(ValueError, match="3 basis rewards"):
        near_duplicates(ASKED, np.ones((1, 3)))


def test_a_negative_distance_is_refused() -> None:
    with pytest.raises(ValueError, match=r"-0\.1"):
        near_duplicates(ASKED, ASKED, distance=-0.1)
