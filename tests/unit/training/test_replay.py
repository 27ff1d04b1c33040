import numpy as np
import pytest

from app.preferences.answers import ResponseModel
from app.preferences.posterior import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.training.people import choose
from app.training.replay import RecordedPerson, choice_probability, replay, replay_questions, score, table

SIZE, PEOPLE = 3, 10
PRIOR = GaussianPrior(Posterior(np.array([0.5, 0.0, 0.0]), np.eye(SIZE) / 1.5**2))
PLAIN = ResponseModel()


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    found = []
    for taste in PRIOR.population.mean + 1.5 * rng.standard_normal((PEOPLE, SIZE)):
        asked, predicted = rng.standard_normal((25, SIZE)), rng.standard_normal((30, SIZE))
        labels = [choose(rows @ taste, np.zeros(len(rows)), rng) for rows in (asked, predicted)]
        found.append(RecordedPerson(asked, labels[0], predicted, labels[1]))
    return found


@pytest.fixture(scope="module")
def rows(people):
    return score([replay(person, PRIOR, PLAIN) for person in people], np.random.default_rng(1))


def test_answers_sharpen_the_predictions(rows):
    assert rows[-1].answers == 20
    assert rows[-1].accuracy.mean > rows[0].accuracy.mean + 0.1
    assert rows[-1].log_loss.mean < rows[0].log_loss.mean


def test_shuffled_answers_destroy_the_gain(people, rows):
    rng = np.random.default_rng(2)
    shuffled = [
        RecordedPerson(p.asked, rng.permutation(p.asked_labels), p.predicted, p.predicted_labels) for p in people
    ]
    control = score([replay(person, PRIOR, PLAIN) for person in shuffled], rng)
    assert control[-1].accuracy.mean < rows[-1].accuracy.mean - 0.1


def test_active_questions_teach_more_than_recorded_order(people):
    recorded = score([replay(p, PRIOR, PLAIN, (5,), rule=None) for p in people], np.random.default_rng(1))
    active = score([replay(p, PRIOR, PLAIN, (5,)) for p in people], np.random.default_rng(1))
    assert active[0].log_loss.mean < recorded[0].log_loss.mean


def test_a_person_with_few_recorded_questions_is_scored_as_far_as_they_go(people):
    one = people[0]
    short = RecordedPerson(one.asked[:4], one.asked_labels[:4], one.predicted, one.predicted_labels)
    assert sorted(replay(short, PRIOR, PLAIN).probabilities) == [0, 1, 3]


def test_given_the_questions_that_were_chosen_the_predictions_are_the_same(people):
    chosen = replay(people[0], PRIOR, PLAIN)
    given = replay_questions(people[0], PRIOR, PLAIN, chosen.questions, tuple(chosen.probabilities))
    assert all(np.array_equal(given.probabilities[t], p) for t, p in chosen.probabilities.items())


def test_lapses_pull_predicted_choices_towards_one_half(people):
    certain = replay(people[0], PRIOR, PLAIN, (0,)).probabilities[0]
    lapsing = replay(people[0], PRIOR, ResponseModel(lapse=0.2), (0,)).probabilities[0]
    assert lapsing == pytest.approx(0.1 + 0.8 * certain)


def test_scores_are_shown_one_row_a_number_of_answers(rows):
    assert len(table(rows).splitlines()) == 2 + len(rows)


def test_a_predicted_choice_is_the_first_side_given_that_it_is_no_tie():
    margin, lapse, strength = 1.2, 0.1, 0.8
    certain = Posterior(np.array([margin]), np.array([[1e12]]))
    first, second, tie = np.exp(margin / 2.0), np.exp(-margin / 2.0), strength
    sides = [lapse / 2.0 + (1.0 - lapse) * one / (first + second + tie) for one in (first, second)]
    found = choice_probability(certain, np.ones((1, 1)), ResponseModel(lapse=lapse, tie_strength=strength))
    assert found == pytest.approx(sides[0] / sum(sides))


def test_a_weak_tie_changes_no_prediction():
    rows = np.random.default_rng(0).standard_normal((600, SIZE))
    plain, weak = (ResponseModel(lapse=0.1, tie_strength=strength) for strength in (None, 1e-12))
    expected = choice_probability(PRIOR.population, rows, plain)
    assert choice_probability(PRIOR.population, rows, weak) == pytest.approx(expected)


def test_exchanged_sides_mirror_predictions_with_ties():
    rows, response = np.random.default_rng(0).standard_normal((5, SIZE)), ResponseModel(lapse=0.1, tie_strength=0.8)
    mirrored = 1.0 - choice_probability(PRIOR.population, -rows, response)
    assert choice_probability(PRIOR.population, rows, response) == pytest.approx(mirrored)


def test_claimed_certainty_is_about_preferences_and_not_about_lapses(people):
    plain, lapsing = (replay(people[0], PRIOR, ResponseModel(lapse=lapse), (0,)) for lapse in (0.0, 0.2))
    assert plain.certainties == lapsing.certainties
