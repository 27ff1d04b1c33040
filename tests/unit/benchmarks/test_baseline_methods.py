from dataclasses import replace

import numpy as np
import pytest

from app.training.evaluation.problem import Pairs
from app.training.evaluation.run import ask_people
from app.training.evaluation.scores import per_person
from benchmarks.baselines import lore_method, pref_basis, pref_method
from benchmarks.baselines.lore_method import few_shot
from benchmarks.baselines.methods import METHODS
from benchmarks.baselines.pref import choose_one_by_one, descend_lean
from benchmarks.baselines.pref_basis import Table
from benchmarks.baselines.pref_method import descend_together, published_gains
from tests.unit.training.evaluation.small import draw_problem


class Start:
    """A generator that starts where it is told."""

    def __init__(self, start):
        self.start = start

    def standard_normal(self, size):
        return self.start


@pytest.fixture
def fewer_steps(monkeypatch):
    monkeypatch.setattr(pref_method, "DESCENT_STEPS", 300)
    monkeypatch.setattr(lore_method, "ITERATIONS", 50)
    monkeypatch.setattr(pref_basis, "STEPS", 50)


def test_people_descended_together_end_where_each_alone_would():
    rng = np.random.default_rng(0)
    rows, labels, starts = rng.standard_normal((3, 5, 4)), (rng.random((3, 5)) < 0.5) * 1.0, rng.standard_normal((3, 4))
    weights = np.ones((3, 5))
    weights[2, 3:] = 0.0
    together = descend_together(rows, labels, weights, starts)
    for number, count in enumerate((5, 5, 3)):
        alone = descend_lean(rows[number, :count], labels[number, :count], Start(starts[number]))
        assert together[number] == pytest.approx(alone, abs=1e-9)


def test_the_rule_chooses_what_the_published_loop_chooses():
    rng = np.random.default_rng(0)
    coefficients, asked, rows = rng.standard_normal(4), rng.standard_normal((3, 4)), rng.standard_normal((50, 4))
    assert np.argmax(published_gains(coefficients, asked, rows)) == choose_one_by_one(coefficients, asked, rows)


def test_few_shot_weights_stay_on_the_simplex_and_follow_the_answers():
    rows = np.tile(np.array([[1.0, -1.0]]), (1, 5, 1))
    weights = few_shot(rows, np.ones((1, 5)), np.ones((1, 5)), np.zeros((1, 2)))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0, 0] > 0.9


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("identity", [False, True])
def test_every_baseline_asks_and_predicts_with_features_and_without(fewer_steps, name, identity):
    problem = draw_problem(people=3, training_people=8, counts=(0, 1, 3))
    problem = replace(problem, features=None) if identity else problem
    method = METHODS[name]()
    method.fit(problem, np.random.default_rng(0))
    records = ask_people(method, problem, problem.people, 0)
    assert [sorted(one.probabilities) for one in records] == [[0, 1, 3]] * 3


def test_a_pair_is_one_row_of_the_table_whichever_side_came_first():
    training = Pairs(np.array([4, 7, 7]), np.array([7, 4, 4]), np.array([1.0, 0.0, 1.0]))
    table = Table.of(replace(draw_problem(), training=training, training_people=np.array([0, 0, 1])))
    assert table.pairs.tolist() == [[4, 7]]
    assert table.labels.tolist() == [1.0, 0.0]


def test_large_tables_are_decomposed_without_being_written_out(monkeypatch):
    answers = Table.of(draw_problem(training_people=16))
    table = np.full((len(answers.pairs), 16), 0.5)
    table[answers.pair, answers.person] = answers.labels
    monkeypatch.setattr(pref_basis, "LARGEST_TABLE", 0)
    users, targets = pref_basis._singular_vectors(answers, 3, np.random.default_rng(0))
    scale = np.linalg.svd(table, compute_uv=False)
    assert np.square(table - targets @ users.T).sum() == pytest.approx(np.square(scale[3:]).sum(), rel=0.01)


def test_one_model_for_each_person_learns_from_their_answers():
    problem = draw_problem(people=6, training_people=8, counts=(0, 10))
    method = METHODS["per-user"]()
    method.fit(problem, np.random.default_rng(0))
    records = ask_people(method, problem, problem.people, 0)
    assert np.nanmean(per_person(records, 10, "accuracy")) > 0.55
