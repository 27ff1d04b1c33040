import numpy as np
import pytest

from app.training.evaluation import personalllm
from app.training.evaluation.attributes import ATTRIBUTES, CONSENSUS, all_tastes, answers, attributes_problem
from app.training.evaluation.personalllm import CELLS, PersonalLlmWorld, extremes, personalllm_problem
from app.training.metrics import auc


@pytest.fixture(scope="module")
def problem():
    return attributes_problem(ATTRIBUTES, 0)


@pytest.fixture
def few(monkeypatch):
    for name, value in {"TRAINING_PROMPTS": 60, "TEST_PROMPTS": 20, "SEEN": 8, "UNSEEN": 5}.items():
        monkeypatch.setattr(personalllm, name, value)


def test_every_two_signed_traits_are_one_person():
    tastes = all_tastes(0.0)
    assert len(np.unique(tastes, axis=0)) == len(tastes) == 84
    assert (np.abs(tastes).sum(axis=1) == 2.0).all()


def test_the_people_together_want_nothing_but_the_consensus():
    assert all_tastes(1.5).sum(axis=0).tolist() == [0.0] * 7 + [84 * 1.5]


def test_people_and_texts_are_split_as_published(problem):
    assert problem.training_people.max() == 66
    assert len(problem.people) == 17
    assert len(problem.training) == 67 * 80
    assert len(problem.people[0].asked) == 300
    assert len(problem.people[0].predicted) == 400


def test_no_text_is_both_trained_on_and_predicted(problem):
    trained = {*problem.training.first, *problem.training.second}
    for person in problem.people[:2]:
        predicted = {*person.predicted.first, *person.predicted.second}
        asked = {*person.asked.first, *person.asked.second}
        assert not predicted & (trained | asked)


def test_the_true_taste_predicts_nearly_every_decided_answer():
    rng = np.random.default_rng(0)
    traits, pairs = rng.standard_normal((4000, 8)), np.arange(4000).reshape(-1, 2)
    taste = all_tastes(0.0)[0]
    labels = answers(traits, pairs, taste, rng).labels
    assert set(labels) == {0.0, 0.5, 1.0}
    assert auc((traits[pairs[:, 0]] - traits[pairs[:, 1]]) @ taste, labels) > 0.99


@pytest.mark.parametrize("world", [ATTRIBUTES, CONSENSUS])
def test_the_same_seed_gives_the_same_world(world):
    one, other = attributes_problem(world, 3), attributes_problem(world, 3)
    assert np.array_equal(one.features, other.features)
    assert np.array_equal(one.training.labels, other.training.labels)


def test_the_cells_are_two_kinds_of_people_by_two_ranks():
    assert [(cell.concentration, cell.rank) for cell in CELLS] == [(0.001, 5), (0.001, 10), (0.1, 5), (0.1, 10)]


def test_questions_are_given_and_not_chosen(few):
    problem = personalllm_problem(CELLS[0], 0)
    assert not problem.active
    assert {len(person.asked) for person in problem.people} == {9}


def test_held_out_people_are_predicted_on_prompts_that_nobody_saw(few):
    problem = personalllm_problem(CELLS[0], 0)
    assert problem.training.first.max() < 60 * 8
    assert min(person.predicted.first.min() for person in problem.people) >= 60 * 8


def test_the_preferred_side_is_the_best_response_and_the_other_the_worst():
    rng = np.random.default_rng(0)
    rewards = rng.standard_normal((4, 8, 10)).astype(np.float32)
    taste = rng.dirichlet(np.ones(10))
    pairs = extremes(rewards, np.arange(4), taste, rng)
    values = (rewards @ taste).reshape(-1)
    best = np.where(pairs.labels == 1.0, pairs.first, pairs.second)
    worst = np.where(pairs.labels == 1.0, pairs.second, pairs.first)
    for prompt in range(4):
        own = values[8 * prompt : 8 * prompt + 8]
        assert values[best[prompt]] == own.max()
        assert values[worst[prompt]] == own.min()


def test_ranks_of_one_kind_of_people_share_the_world(few):
    one, other = (personalllm_problem(PersonalLlmWorld(0.1, rank), 0) for rank in (5, 10))
    assert np.array_equal(one.training.labels, other.training.labels)
