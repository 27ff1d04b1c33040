import numpy as np
import pytest

from app.preferences.posterior import Posterior
from app.training.fit import check_certainty, choose_certainty_scale, choose_exponent, swapped
from app.training.people import choose
from app.training.replay import RecordedPerson, replay, score, table

SIZE, PEOPLE = 3, 40
PRIOR = Posterior(np.array([0.5, 0.0, 0.0]), np.eye(SIZE) / 1.5**2)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    found = []
    for taste in PRIOR.mean + 1.5 * rng.standard_normal((PEOPLE, SIZE)):
        asked, predicted = rng.standard_normal((25, SIZE)), rng.standard_normal((30, SIZE))
        labels = [choose(rows @ taste, np.zeros(len(rows)), rng) for rows in (asked, predicted)]
        found.append(RecordedPerson(asked, labels[0], predicted, labels[1]))
    return found


@pytest.fixture(scope="module")
def rows(people):
    return score([replay(person, PRIOR, 1.0) for person in people], np.random.default_rng(1))


def test_answers_sharpen_the_predictions(rows):
    assert rows[-1].answers == 20
    assert rows[-1].accuracy.mean > rows[0].accuracy.mean + 0.1
    assert rows[-1].log_loss.mean < rows[0].log_loss.mean


def test_another_persons_answers_destroy_the_gain(people, rows):
    control = score(swapped(people, PRIOR, 1.0), np.random.default_rng(1))
    assert control[-1].accuracy.mean < rows[0].accuracy.mean + 0.02


def test_shuffled_answers_destroy_the_gain(people, rows):
    rng = np.random.default_rng(2)
    shuffled = [
        RecordedPerson(p.asked, rng.permutation(p.asked_labels), p.predicted, p.predicted_labels) for p in people
    ]
    control = score([replay(person, PRIOR, 1.0) for person in shuffled], rng)
    assert control[-1].accuracy.mean < rows[-1].accuracy.mean - 0.1


def test_active_questions_teach_more_than_recorded_order(people):
    recorded = score([replay(p, PRIOR, 1.0, (5,), active=False) for p in people], np.random.default_rng(1))
    active = score([replay(p, PRIOR, 1.0, (5,)) for p in people], np.random.default_rng(1))
    assert active[0].log_loss.mean < recorded[0].log_loss.mean


def test_a_person_with_few_recorded_questions_is_scored_as_far_as_they_go(people):
    one = people[0]
    short = RecordedPerson(one.asked[:4], one.asked_labels[:4], one.predicted, one.predicted_labels)
    assert sorted(replay(short, PRIOR, 1.0).probabilities) == [0, 1, 3]


def test_true_people_need_little_tempering(people):
    assert choose_exponent(people, PRIOR) >= 0.7
    assert choose_certainty_scale(people, PRIOR, 1.0) == pytest.approx(1.0, abs=0.15)


def test_certainty_told_is_certainty_realised_for_true_people(people):
    for one in check_certainty(people, PRIOR, 1.0, 1.0):
        assert one.realised == pytest.approx(one.told, abs=0.08)


def test_without_people_nothing_is_corrected():
    assert choose_exponent([], PRIOR) == choose_certainty_scale([], PRIOR, 1.0) == 1.0


def test_scores_are_shown_one_row_a_number_of_answers(rows):
    assert len(table(rows).splitlines()) == 2 + len(rows)
