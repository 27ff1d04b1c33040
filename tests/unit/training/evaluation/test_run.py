from dataclasses import replace

import numpy as np
import pytest

from app.training.evaluation.run import ask_people, swapped, with_shuffled_answers, with_shuffled_people
from tests.unit.training.evaluation.small import RememberingMethod, draw_problem, with_asked


@pytest.fixture
def problem():
    return draw_problem()


@pytest.fixture
def method():
    return RememberingMethod()


def test_everyone_is_predicted_at_every_count(problem, method):
    records = ask_people(method, problem, problem.people, 0)
    assert [sorted(one.probabilities) for one in records] == [[0, 1, 4]] * 12


def test_labels_are_hidden_from_the_method(problem, method):
    ask_people(method, problem, problem.people, 0)
    for session in method.begun:
        assert np.isnan(session.person.asked.labels).all()
        assert np.isnan(session.person.predicted.labels).all()


def test_the_recorded_answer_is_what_the_method_observes(problem, method):
    ask_people(method, problem, problem.people, 0)
    for session, person in zip(method.begun, problem.people, strict=True):
        assert session.labels == person.asked.labels[session.seen].tolist()


def test_no_question_is_asked_twice(problem, method):
    for one in ask_people(method, problem, problem.people, 0):
        assert len(set(one.questions)) == len(one.questions) == 4


def test_a_person_with_few_pairs_is_asked_as_far_as_they_go(problem, method):
    short = with_asked(problem.people[0], 2)
    (record,) = ask_people(method, problem, [short], 0)
    assert sorted(record.probabilities) == [0, 1]
    assert len(record.questions) == 2


def test_where_nobody_may_choose_questions_come_in_order(method):
    class Contrary(RememberingMethod):
        def begin(self, person, rng):
            session = super().begin(person, rng)
            session.choose = lambda allowed: int(np.flatnonzero(allowed)[-1])
            return session

    problem = draw_problem(active=False)
    assert ask_people(Contrary(), problem, problem.people[:1], 0)[0].questions == [0, 1, 2, 3]


def test_a_question_that_was_not_allowed_is_refused(problem, method):
    class Stubborn(RememberingMethod):
        def begin(self, person, rng):
            session = super().begin(person, rng)
            session.choose = lambda allowed: 0
            return session

    with pytest.raises(ValueError, match="Question 0 was not allowed"):
        ask_people(Stubborn(), problem, problem.people, 0)


def test_predictions_outside_zero_and_one_are_refused(problem, method):
    class Wild(RememberingMethod):
        def begin(self, person, rng):
            session = super().begin(person, rng)
            session.predict = lambda pairs: np.full(len(pairs), 1.5)
            return session

    with pytest.raises(ValueError, match="one probability for each of 40 pairs"):
        ask_people(Wild(), problem, problem.people, 0)


def test_certainty_told_is_the_methods_own(problem, method):
    record = ask_people(method, problem, problem.people, 0)[0]
    claimed = np.abs(2.0 * record.probabilities[4] - 1.0).mean()
    assert record.told[4] == pytest.approx(claimed / 2.0)


def test_swapped_people_keep_their_choices_and_get_anothers_answers(problem):
    first, second = swapped(problem.people)[0], problem.people[1]
    assert first.asked is second.asked
    assert first.predicted is problem.people[0].predicted
    assert first.name == problem.people[0].name


def test_shuffled_answers_are_the_same_answers(problem):
    one = with_shuffled_answers(problem.people, np.random.default_rng(0))[0]
    assert sorted(one.asked.labels) == sorted(problem.people[0].asked.labels)
    assert not np.array_equal(one.asked.labels, problem.people[0].asked.labels)


def test_shuffled_people_keep_every_answer_to_its_pair(problem):
    shuffled = with_shuffled_people(replace(problem, about=("x",) * 20), np.random.default_rng(0))
    assert shuffled.training is problem.training
    assert shuffled.about is None
    assert np.array_equal(np.bincount(shuffled.training_people), np.bincount(problem.training_people))
