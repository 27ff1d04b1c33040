import numpy as np
import pytest

from app.errors import InvalidInput
from app.preferences.selection import random_choice
from app.training.evaluation import attune_method
from app.training.evaluation.attune_method import AttuneMethod, Options
from app.training.evaluation.method import claimed
from app.training.evaluation.run import ask_people
from app.training.evaluation.scores import per_person
from tests.unit.training.evaluation.small import draw_problem

PLAIN = Options(family="gaussian", calibrated=False)


@pytest.fixture(scope="module")
def problem():
    return draw_problem(people=8, counts=(0, 10))


@pytest.fixture(scope="module")
def fitted(problem):
    method = AttuneMethod(options=PLAIN)
    method.fit(problem, np.random.default_rng(0))
    return method


def test_answers_sharpen_the_predictions(problem, fitted):
    records = ask_people(fitted, problem, problem.people, 0)
    gain = per_person(records, 10, "log_loss") - per_person(records, 0, "log_loss")
    assert gain.mean() < -0.02


def test_before_any_answer_everyone_is_the_population(problem, fitted):
    sessions = [fitted.begin(person, np.random.default_rng(0)) for person in problem.people[:2]]
    shared = problem.people[0].predicted
    assert np.array_equal(*(session.predict(shared) for session in sessions))


def test_the_same_generator_gives_the_same_method(problem, fitted):
    again = AttuneMethod(options=PLAIN)
    again.fit(problem, np.random.default_rng(0))
    assert np.array_equal(again.rewards, fitted.rewards)


def test_the_rule_can_be_switched(problem):
    method = AttuneMethod(options=Options(family="gaussian", rule=random_choice, calibrated=False))
    method.fit(problem, np.random.default_rng(0))
    first, second = (method.begin(problem.people[0], np.random.default_rng(seed)) for seed in (0, 1))
    allowed = np.ones(20, dtype=bool)
    assert [first.choose(allowed) for _ in range(5)] != [second.choose(allowed) for _ in range(5)]


def test_asking_without_a_pair_left_is_refused(problem, fitted):
    session = fitted.begin(problem.people[0], np.random.default_rng(0))
    with pytest.raises(ValueError, match="No pair is allowed"):
        session.choose(np.zeros(20, dtype=bool))


def test_an_unknown_family_is_refused():
    with pytest.raises(InvalidInput, match="no family of priors 'gauss'"):
        Options(family="gauss")


def test_an_unknown_basis_method_is_refused():
    with pytest.raises(InvalidInput, match="no basis method 'prefs'"):
        Options(basis="prefs")


def test_without_calibration_claims_are_taken_at_their_word(problem, fitted):
    session = fitted.begin(problem.people[0], np.random.default_rng(0))
    pairs = problem.people[0].predicted
    assert session.told(pairs) == pytest.approx(claimed(session.predict(pairs)))


def test_settings_are_chosen_without_the_people_set_aside(monkeypatch):
    """Who is set aside decides nothing about the basis that they are then predicted with."""
    problem, seen = draw_problem(people=2, training_people=20, counts=(0,)), []

    class Stop(Exception):
        pass

    def choose(data, method, rng):
        seen.append(data.person_count)
        raise Stop

    monkeypatch.setattr(attune_method, "choose_common_spread", choose)
    with pytest.raises(Stop):
        AttuneMethod().fit(problem, np.random.default_rng(0))
    assert seen == [16]
