from dataclasses import replace

import numpy as np
import pytest
import torch

from app.training.methods import Lore, PersonalRewardModel, Pref, Run, TrainingData, Uniform, named_method
from app.training.methods.design import design_of

METHODS = [
    pytest.param(Pref(3, iterations=30), 0.85, id="pref"),
    pytest.param(Lore(5, iterations=30), 0.75, id="lore"),
    pytest.param(PersonalRewardModel(3, iterations=30), 0.7, id="individual"),
    pytest.param(PersonalRewardModel(5, "cluster", iterations=30), 0.75, id="cluster"),
    pytest.param(Uniform(iterations=30), 0.4, id="uniform"),
]


def fit(method, data, run=None, seed=0):
    return method.fit(data, np.random.default_rng(seed), run or Run())


def swapped_sides(data):
    return replace(data, first=data.second, second=data.first, labels=1.0 - data.labels)


@pytest.mark.parametrize(("method", "least"), METHODS)
def test_fitted_rewards_follow_the_true_ones(world, method, least):
    assert world.correlation(fit(method, world.data)) > least


@pytest.mark.parametrize(("method", "least"), METHODS)
def test_items_without_features_are_learned_from_answers_alone(items, method, least):
    assert items.correlation(fit(method, items.data)) > least


@pytest.mark.parametrize(("method", "least"), METHODS)
def test_identity_features_are_the_same_as_none(items, method, least):
    explicit = replace(items.data, features=np.eye(items.data.rows))
    basis = fit(replace(method, shrinkage=0.0), explicit)
    assert np.corrcoef(items.fitted(fit(method, items.data)), items.fitted(basis))[0, 1] > 0.98


@pytest.mark.parametrize(("method", "least"), METHODS)
def test_the_same_seed_gives_the_same_bits(world, method, least):
    one, other = (fit(method, world.data) for _ in range(2))
    np.testing.assert_array_equal(one.heads, other.heads)


@pytest.mark.parametrize(("method", "least"), METHODS)
def test_swapping_the_sides_of_every_pair_changes_nothing(world, method, least):
    before, after = fit(method, world.data), fit(method, swapped_sides(world.data))
    assert np.corrcoef(world.fitted(after), world.fitted(before))[0, 1] > 0.99  # float32, and some fits have no one end


@pytest.mark.parametrize(("method", "least"), METHODS)
def test_a_fit_that_was_cut_off_ends_as_if_it_had_not_been(world, tmp_path, method, least):
    whole = fit(replace(method, iterations=20), world.data, Run(every=5))
    checkpoint = tmp_path / "fit"
    fit(replace(method, iterations=10), world.data, Run(checkpoint, every=5))
    resumed = fit(replace(method, iterations=20), world.data, Run(checkpoint, every=5))
    np.testing.assert_array_equal(resumed.heads, whole.heads)


def test_shuffled_labels_leave_nothing_to_learn(world):
    shuffled = replace(world.data, labels=np.random.default_rng(0).permutation(world.data.labels))
    assert abs(world.correlation(fit(Pref(3), shuffled))) < 0.3


def test_weights_of_the_simplex_methods_are_shares(world):
    for method in (Lore(4), PersonalRewardModel(4, "cluster")):
        basis = fit(method, world.data)
        assert (basis.coefficients >= 0).all()
        np.testing.assert_allclose(basis.coefficients.sum(1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(basis.vertices, np.eye(4))


def test_people_who_mix_pure_tastes_are_mixed_back():
    """Noise-free answers of people with nearly one taste each, as in PersonalLLM."""
    rng = np.random.default_rng(1)
    features, pure = rng.standard_normal((600, 12)), rng.standard_normal((4, 12))
    shares = rng.dirichlet(np.full(4, 0.05), 100)
    people = np.repeat(np.arange(100), 30)
    first, second = rng.integers(0, 600, (2, 3000))
    rewards = features @ pure.T
    labels = (((rewards[first] - rewards[second]) * shares[people]).sum(1) > 0).astype(float)
    basis = fit(Lore(4), TrainingData(features, first, second, people, labels))
    found = features @ basis.heads.T @ basis.coefficients.T
    true = rewards @ shares.T
    correlations = [np.corrcoef(found[:, person], true[:, person])[0, 1] for person in range(100)]
    assert np.median(correlations) > 0.95


def test_the_weight_of_the_generic_person_pulls_individuals_together(world):
    def spread(alpha):
        coefficients = fit(PersonalRewardModel(3, alpha=alpha), world.data).coefficients
        return coefficients.std(0)[1:].sum()

    assert spread(0.2) < spread(1.0)


@pytest.mark.parametrize("user_model", ["uniform", "cluster", "individual"])
def test_what_people_write_is_read(world, user_model):
    data = world.data
    rng = np.random.default_rng(0)
    written = rng.standard_normal((data.person_count, 2))
    direction = data.features @ rng.standard_normal(data.hidden)
    margins = 1.5 * written[data.people, 0] * (direction[data.first] - direction[data.second])
    labels = (margins > 0).astype(float)
    silent = fit(PersonalRewardModel(2, user_model, alpha=0.0), replace(data, labels=labels))
    reading = fit(PersonalRewardModel(2, user_model, alpha=0.0), replace(data, labels=labels, about_features=written))
    assert reading.loss < 0.8 * silent.loss


def test_where_nobody_differs_one_reward_is_kept(world):
    assert fit(PersonalRewardModel(3, "uniform"), world.data).heads.shape == (1, world.data.hidden)


def test_more_comparisons_than_rows_and_fewer_give_the_same_rewards(world):
    data = world.data
    heads = torch.from_numpy(np.random.default_rng(0).standard_normal((2, data.hidden))).float()
    many = design_of(data)
    columns = (column[:300] for column in (data.first, data.second, data.people, data.labels))
    few = design_of(TrainingData(data.features, *columns))
    rewards = many.rewards(heads).numpy()
    direct = (data.features[data.first] - data.features[data.second]) @ many.raw(heads).T
    np.testing.assert_allclose(rewards, direct, atol=1e-4)
    direct = (data.features[data.first[:300]] - data.features[data.second[:300]]) @ few.raw(heads).T
    np.testing.assert_allclose(few.rewards(heads).numpy(), direct, atol=1e-4)


@pytest.mark.parametrize("kind", ["world", "items"])
def test_collecting_is_the_adjoint_of_rewarding(kind, request):
    data = request.getfixturevalue(kind).data
    design = design_of(data)
    rng = np.random.default_rng(0)
    heads, residuals = (
        torch.from_numpy(rng.standard_normal(shape)).float() for shape in ((2, design.hidden), (len(data), 2))
    )
    one, other = (design.rewards(heads) * residuals).sum(), (design.collect(residuals) * heads).sum()
    assert float(one) == pytest.approx(float(other), rel=1e-3)


@pytest.mark.parametrize("kind", ["world", "items"])
def test_heads_of_ones_own_say_what_shared_heads_would(kind, request):
    data = request.getfixturevalue(kind).data
    design, person = design_of(data), torch.from_numpy(data.people)
    heads = torch.randn(data.person_count, design.hidden, generator=torch.Generator().manual_seed(0))
    shared = design.rewards(heads).gather(1, person[:, None])[:, 0]
    torch.testing.assert_close(design.own_rewards(heads, person), shared, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["variational", "uniform", "pref", "lore", "p-rm"])
def test_methods_are_found_by_the_name_they_give(name):
    assert named_method(name, 2).name == name


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="'svd'; choose one of variational, uniform, pref, lore, p-rm"):
        named_method("svd", 2)


@pytest.mark.parametrize("rank", [0, 17])
def test_a_rank_that_the_data_cannot_carry_is_refused(world, rank):
    with pytest.raises(ValueError, match=f"rank is {rank}; pass 1 to 16"):
        fit(Pref(rank), world.data)
