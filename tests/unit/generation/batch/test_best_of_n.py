import numpy as np
import pytest

from app.generation.batch.best_of_n import hopeless


def test_a_candidate_far_behind_the_leader_is_hopeless() -> None:
    assert hopeless(np.array([0.0, 5.0, 4.9]), np.ones(3), 0.05).tolist() == [True, False, False]


def test_the_chance_is_that_of_overtaking_the_leader() -> None:
    rng, rewards, variances = np.random.default_rng(0), np.array([0.3, 1.0]), np.array([0.5, 0.8])
    ends = rewards + rng.standard_normal((400_000, 2)) * np.sqrt(variances)
    share = float((ends[:, 0] > ends[:, 1]).mean())
    assert not hopeless(rewards, variances, share - 0.005)[0]  # six standard errors of the share
    assert hopeless(rewards, variances, share + 0.005)[0]


@pytest.mark.parametrize("drop_below", [0.0, 0.5, 1.0])
def test_the_leader_is_never_dropped(drop_below: float) -> None:
    rewards = np.random.default_rng(1).standard_normal(16)
    assert not hopeless(rewards, np.full(16, 1e-12), drop_below)[rewards.argmax()]


def test_nobody_is_dropped_below_a_chance_of_zero() -> None:
    assert not hopeless(np.array([-1e6, 0.0]), np.ones(2), 0.0).any()


def test_candidates_level_with_a_certain_leader_stay() -> None:
    assert not hopeless(np.array([1.0, 1.0]), np.zeros(2), 0.4).any()


def test_who_is_certainly_behind_is_dropped() -> None:
    assert hopeless(np.array([1.0, 2.0]), np.zeros(2), 0.01).tolist() == [True, False]


def test_the_chance_of_being_dropped_does_not_depend_on_how_many_others_there_are() -> None:
    few = hopeless(np.array([0.0, 1.0, 3.0]), np.ones(3), 0.1)
    many = hopeless(np.array([0.0, 1.0, 3.0, *[2.5] * 20]), np.ones(23), 0.1)
    assert many[:3].tolist() == few.tolist()
