import numpy as np
import pytest
import torch

from app.preferences.logistic import sigmoid
from app.training.methods.data import Run, TrainingData
from app.training.methods.variational import Variational

PEOPLE, ROWS, EACH = 300, 40, 30
SETTINGS = {"identity": None, "features": 12}


def world(kind, spread=1.0, seed=0):
    """Rewards (people, rows) of a common part and two factors, and comparisons drawn from them."""
    rng = np.random.default_rng(seed)
    hidden = SETTINGS[kind]
    features = None if hidden is None else rng.standard_normal((ROWS, hidden))
    seen = np.eye(ROWS) if features is None else features / np.sqrt(hidden)
    heads = rng.standard_normal((3, seen.shape[1]))
    own = np.hstack([np.ones((PEOPLE, 1)), spread * rng.standard_normal((PEOPLE, 2))])
    rewards = own @ heads @ seen.T
    people = np.repeat(np.arange(PEOPLE), EACH)
    first, second = rng.integers(0, ROWS, (2, len(people)))
    first = np.where(first == second, (second + 1) % ROWS, first)
    chance = sigmoid(rewards[people, first] - rewards[people, second])
    labels = (rng.random(len(people)) < chance).astype(np.float64)
    return rewards, TrainingData(features, first, second, people, labels, rows=ROWS)


def fitted(data, rank=3, **options):
    return Variational(rank, **options).fit(data, np.random.default_rng(0))


@pytest.fixture(scope="module", params=SETTINGS)
def learned(request):
    rewards, data = world(request.param)
    return rewards, data, fitted(data)


def correlation(one, other):
    centred = [values - values.mean(axis=1, keepdims=True) for values in (one, other)]
    return np.corrcoef(centred[0].ravel(), centred[1].ravel())[0, 1]


def test_everyones_rewards_are_recovered(learned):
    rewards, data, basis = learned
    assert correlation(rewards, basis.coefficients @ basis.rewards(data.features).T) > 0.85


def test_the_population_counts_once_for_everyone(learned):
    _, _, basis = learned
    assert (basis.coefficients[:, 0] == 1.0).all()


def test_own_parts_shrink_towards_the_population(learned):
    _, data, _ = learned
    basis = fitted(data, spread=3.0)
    assert 0.3 < np.square(basis.coefficients[:, 1:]).mean() < 1.0


def test_people_who_agree_get_factors_that_hardly_matter():
    _, data = world("identity", spread=0.0)
    basis = fitted(data)
    shares = basis.rewards(None).std(axis=0)
    assert shares[1:].max() < 0.45 * shares[0]


def test_one_basis_reward_is_the_population():
    _, data = world("identity")
    assert fitted(data, rank=1).coefficients.tolist() == [[1.0]] * PEOPLE


def test_the_same_seed_gives_the_same_basis():
    _, data = world("features")
    assert np.array_equal(fitted(data, rounds=4).heads, fitted(data, rounds=4).heads)


def test_swapping_the_sides_of_every_pair_changes_nothing():
    _, data = world("identity")
    other = TrainingData(None, data.second, data.first, data.people, 1.0 - data.labels, rows=ROWS)
    assert np.allclose(fitted(data, rounds=4).heads, fitted(other, rounds=4).heads, atol=1e-3)


def test_a_fit_cut_off_ends_as_one_that_was_not(tmp_path):
    _, data = world("features")
    run = Run(tmp_path / "fit", every=3)
    Variational(3, rounds=6).fit(data, np.random.default_rng(0), run)
    resumed = Variational(3, rounds=9).fit(data, np.random.default_rng(0), run)
    assert np.array_equal(resumed.heads, fitted(data, rounds=9).heads)


def test_the_penalised_bound_never_falls(tmp_path):
    _, data = world("identity")
    run, spread = Run(tmp_path / "fit", every=1), 0.1
    bounds = []
    for rounds in range(1, 13):
        Variational(3, spread=spread, rounds=rounds).fit(data, np.random.default_rng(0), run)
        bounds.append(penalised_bound(torch.load(run.checkpoint), data, np.array([1.0, spread, spread])))
    assert (np.diff(bounds) > -1e-5 * abs(bounds[-1])).all()


def penalised_bound(state, data, spreads):
    """Evidence lower bound of Jaakkola and Jordan, tight, less the heads' penalty; item features."""
    heads, people = state["heads"].double().numpy(), {k: v.double().numpy() for k, v in state["people"].items()}
    rewards = np.sqrt(ROWS) * (heads.T[data.first] - heads.T[data.second])
    square = np.einsum("nk,nkl,nl->n", rewards, people["second"][data.people], rewards)
    margins, root = (rewards * people["means"][data.people]).sum(1), np.sqrt(square)
    likelihood = ((data.labels - 0.5) * margins - root / 2.0 - np.log1p(np.exp(-root))).sum()
    second, means = people["second"][:, 1:, 1:], people["means"][:, 1:]
    covariances = second - means[:, :, None] * means[:, None]
    divergence = 0.5 * (np.trace(second, axis1=1, axis2=2) - 2.0 - np.linalg.slogdet(covariances)[1]).sum()
    return likelihood - divergence - 0.5 * (ROWS / spreads**2 @ np.square(heads)).sum()
