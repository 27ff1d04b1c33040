"""The family that serves left-out people best is chosen, the simpler one where it makes no difference."""

import numpy as np
import pytest

from app.preferences.answers import Answers
from app.preferences.priors.atoms import AtomsFit
from app.preferences.priors.choose import choose_prior
from app.preferences.priors.gaussian import GaussianFit, GaussianPrior
from app.preferences.priors.heldout import sequential_losses
from tests.unit.preferences.priors.crowds import answered
from tests.unit.preferences.worlds import standard_belief, unchecked_shapes

FAMILIES = (GaussianFit(), AtomsFit())


def test_atoms_are_chosen_for_people_on_a_simplex_who_answer_without_noise() -> None:
    rng = np.random.default_rng(0)
    crowd = answered(10.0 * rng.dirichlet(np.full(3, 0.1), 20), 13, rng, noise_free=True)
    with unchecked_shapes():
        assert choose_prior(*crowd, families=FAMILIES, rng=rng).prior.family == "atoms"


def test_the_gaussian_is_chosen_for_people_spread_in_every_direction() -> None:
    rng = np.random.default_rng(1)
    crowd = answered(rng.standard_normal((24, 3)), 14, rng)
    with unchecked_shapes():
        assert choose_prior(*crowd, families=FAMILIES, rng=rng).prior.family == "gaussian"


def test_every_familys_loss_is_told() -> None:
    rng = np.random.default_rng(2)
    with unchecked_shapes():
        choice = choose_prior(*answered(rng.standard_normal((16, 2)), 12, rng), families=FAMILIES, rng=rng)
    assert set(choice.losses) == {"gaussian", "atoms"}
    assert all(0.0 < mean < 1.0 and error > 0.0 for mean, error in choice.losses.values())


def test_a_single_family_is_fitted_without_judging() -> None:
    rng = np.random.default_rng(3)
    with unchecked_shapes():
        choice = choose_prior(*answered(np.ones((10, 2)), 5, rng), families=(GaussianFit(),), rng=rng)
    assert (choice.prior.family, choice.losses) == ("gaussian", {})


def test_no_family_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        choose_prior(np.ones((1, 1)), np.ones(1), np.zeros(1, int), families=(), rng=np.random.default_rng(0))


def test_a_stage_with_nothing_left_to_predict_has_no_loss() -> None:
    losses = sequential_losses(GaussianPrior(standard_belief(2)), Answers.of(np.ones((3, 2)), np.ones(3)), (0, 3))
    assert np.isnan(losses).tolist() == [False, True]
