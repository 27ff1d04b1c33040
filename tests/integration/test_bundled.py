"""What ships in ``app/bundled`` holds together and is what its cards say."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

import app
from app.entities import Message
from app.preferences.answers import Answers
from app.preferences.selection import select_pair
from app.rewards.artifact import check_model, load_basis, model_sha256
from app.rewards.language import load_language_model
from app.rewards.pool import load_pool, parse_prompts
from app.rewards.scorer import LanguageModelTrunk, basis_rewards
from app.rewards.values import check_values, load_values
from app.training.generate import generate
from app.training.language.export import repetition
from app.training.properties import PROPERTIES, PropertyScale
from app.training.values.actions import ActionHeads
from app.training.values.finals import final_rewards
from app.training.values.prefixes import PrefixHeads
from app.training.values.rollouts import roll_out
from app.training.values.scores import score_actions
from app.training.values.table import state_table

BUNDLED = Path(app.__file__).parent / "bundled"
LARGEST_MODEL_BYTES = 45_000_000
LARGEST_VALUES_BYTES = 1_500_000


@pytest.fixture(scope="module")
def artifact():
    return load_basis(BUNDLED / "basis")


@pytest.fixture(scope="module")
def model():
    torch.set_num_threads(2)
    return load_language_model(BUNDLED / "model")


@pytest.fixture(scope="module")
def prompts():
    path = BUNDLED / "pool/pool.json"
    return parse_prompts(path.read_bytes(), path)


def held_out():
    return (BUNDLED / "held_out_prompts.txt").read_text().splitlines()


def test_the_model_is_small_enough_to_ship():
    assert (BUNDLED / "model/model.safetensors").stat().st_size <= LARGEST_MODEL_BYTES


def test_the_basis_belongs_to_the_model(artifact):
    check_model(artifact.manifest, BUNDLED / "model")
    assert artifact.manifest["model"]["sha256"] == model_sha256(BUNDLED / "model")
    assert artifact.heads.shape[1] == json.loads((BUNDLED / "model/config.json").read_text())["hidden_size"]


def test_at_least_eight_axes_have_a_name_from_held_out_texts(artifact):
    named = {axis.label for axis in artifact.basis.axes} & {one.name for one in PROPERTIES}
    assert len(named) >= 8


def test_the_basis_can_tell_whether_more_answers_would_change_what_is_served(artifact):
    assert artifact.basis.candidate_sets.size


def test_the_pool_has_enough_prompts_responses_and_pairs(prompts, artifact):
    assert len(prompts) >= 80
    assert min(len(one.responses) for one in prompts) >= 5
    assert len(load_pool(BUNDLED / "pool", artifact.basis).pairs) >= 800


def test_every_axis_can_be_asked_about(artifact):
    differences = load_pool(BUNDLED / "pool", artifact.basis).differences
    assert (np.abs(differences).max(axis=0) > 1.5).all()
    assert (differences.std(axis=0) > 0.5).all()


def test_every_property_varies_within_prompts_of_the_pool(prompts):
    scale = PropertyScale.of([text for one in prompts for text in one.responses])
    gaps = [
        np.abs(pair[0] - pair[1]) for one in prompts for pair in combinations(scale.standardise(list(one.responses)), 2)
    ]
    assert ((np.array(gaps) > 1.0).mean(axis=0) > 0.1).all()


def test_stored_rewards_of_the_pool_are_the_models(artifact, model, prompts):
    stored = load_pool(BUNDLED / "pool", artifact.basis)
    one = prompts[0]
    rewards = basis_rewards(
        LanguageModelTrunk(model), artifact, [((Message("user", one.prompt),), text) for text in one.responses[:2]]
    )
    np.testing.assert_allclose(stored.differences[0], rewards[0] - rewards[1], atol=1e-3)


def test_held_out_prompts_are_not_in_the_pool(prompts):
    asked = {one.prompt.lower() for one in prompts}
    assert len(held_out()) >= 100
    assert not asked & {line.lower() for line in held_out()}


def test_ten_answers_of_a_person_with_one_strong_taste_find_it(artifact):
    pool, basis = load_pool(BUNDLED / "pool", artifact.basis), artifact.basis
    taste = basis.prior.population.mean.copy()
    axis = next(axis.index for axis in basis.axes if axis.label == "questions")
    taste[axis] -= 3.0
    belief, asked, answers = basis.prior.population, [], []
    allowed = np.ones(len(pool.pairs), dtype=bool)
    for _ in range(10):
        index = select_pair(belief, pool.differences, allowed).index
        allowed[index] = False
        asked.append(index)
        answers.append(float(pool.differences[index] @ taste > 0))
        given = Answers.of(pool.differences[asked], np.array(answers))
        belief, _ = basis.prior.condition(given, basis.response)
    assert belief.mean[axis] < basis.prior.population.mean[axis] - 0.3


def test_the_model_writes_varied_text_without_loops(model):
    conversations = [(Message("user", line),) for line in held_out()[:8]]
    texts = [one.text for many in generate(model, conversations, 4, max_tokens=64, seed=3) for one in many]
    measures = repetition(texts)
    assert measures["distinct"] > 0.9
    assert measures["loops"] < 0.1


@pytest.fixture(scope="module")
def values():
    return load_values(BUNDLED / "basis/values")


@pytest.fixture(scope="module")
def unseen_responses(model, artifact):
    conversations = [(Message("user", line),) for line in held_out()[:24]]
    rollouts = list(roll_out(model, conversations, 2, seed=4))
    finals = final_rewards(model, artifact, conversations, rollouts)
    return state_table(rollouts, finals, model.tokenizer.end_ids[0], seed=0)


def test_the_value_heads_belong_to_the_basis_and_the_model(values, artifact):
    check_values(values, artifact, BUNDLED / "model")
    assert (BUNDLED / "basis/values/values.safetensors").stat().st_size <= LARGEST_VALUES_BYTES


def test_the_value_heads_promise_what_responses_to_held_out_prompts_come_to(values, unseen_responses):
    table, heads = unseen_responses, PrefixHeads(values.bounds, values.weight, values.offset, ())
    rows = np.flatnonzero((table.counts >= 16) & (table.counts < 64))
    missed = table.finals[table.of[rows]] - heads.of_table(table, rows)
    assert (missed**2).mean() < 0.6 * table.finals[table.of[rows]].var(axis=0).mean()


def test_the_value_heads_know_which_of_two_next_tokens_adds_more(values, unseen_responses):
    table, prefixes = unseen_responses, PrefixHeads(values.bounds, values.weight, values.offset, ())
    arrays = (values.action_states, values.action_offset, values.action_tokens)
    scores = score_actions(table, prefixes, ActionHeads(*(torch.from_numpy(one) for one in arrays)), part=None)
    assert scores[-1].explained > 0.3


def test_the_cards_name_the_weights_they_describe(artifact):
    facts = json.loads((BUNDLED / "model/training.json").read_text())
    assert f"{facts['tokens_seen'] / 1e6:.1f} M" in (BUNDLED / "model/CARD.md").read_text()
    assert artifact.basis.version in (BUNDLED / "basis/CARD.md").read_text()


def test_the_card_of_the_value_heads_is_theirs(values, artifact):
    card = (BUNDLED / "basis/values/CARD.md").read_text()
    assert values.manifest["version"] in card
    assert artifact.basis.version in card
