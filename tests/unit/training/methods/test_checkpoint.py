from dataclasses import replace

import numpy as np
import pytest

from app.errors import InvalidInput
from app.training.methods import Lore, PersonalRewardModel, Pref, Run, Uniform, Variational
from app.training.methods.checkpoint import load_checkpoint
from app.training.methods.design import device

METHODS = [
    Variational(2, rounds=2),
    Pref(2, iterations=2),
    Lore(2, iterations=2),
    PersonalRewardModel(2, iterations=2),
    Uniform(iterations=2),
]


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "fit", every=1)


def fit(method, data, run, seed=0):
    return method.fit(data, np.random.default_rng(seed), run)


def other_data(data):
    """Differs in one thing at a time."""
    turned = data.features.copy()
    turned[0, 0] += 1e-6
    yield replace(data, labels=1.0 - data.labels)
    yield replace(data, first=data.second, second=data.first)
    yield replace(data, people=data.people[::-1].copy())
    yield replace(data, features=turned)
    yield replace(data, features=data.features[:, :-1])


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_a_checkpoint_of_other_data_is_refused(world, run, method):
    fit(method, world.data, run)
    for other in other_data(world.data):
        with pytest.raises(InvalidInput, match="fit is a checkpoint of another fit; delete it"):
            fit(method, other, run)


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_a_checkpoint_of_another_method_is_refused(world, run, method):
    fit(method, world.data, run)
    for other in METHODS:
        if other is not method:
            with pytest.raises(InvalidInput, match="another fit"):
                fit(other, world.data, run)


@pytest.mark.parametrize("other", [Variational(3, rounds=2), Variational(2, spread=1.0, rounds=2)])
def test_a_checkpoint_of_other_settings_is_refused(world, run, other):
    fit(Variational(2, rounds=2), world.data, run)
    with pytest.raises(InvalidInput, match="another fit"):
        fit(other, world.data, run)


def test_a_checkpoint_of_other_draws_is_refused(world, run):
    fit(Variational(2, rounds=2), world.data, run)
    with pytest.raises(InvalidInput, match="another fit"):
        fit(Variational(2, rounds=2), world.data, run, seed=1)


def test_a_file_that_is_no_checkpoint_is_refused(run):
    run.checkpoint.write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInput, match="cannot be read as a checkpoint"):
        load_checkpoint(run, device())
