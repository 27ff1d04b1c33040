import numpy as np
import pytest

from app.preferences.answers import ResponseModel
from app.preferences.certainty import CertaintyCurve
from app.preferences.posterior import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.training.evidence import Evidence, check_certainty, shuffled, swapped
from app.training.people import choose
from app.training.replay import RecordedPerson

SIZE, PEOPLE, SPREAD = 2, 14, 3.0
PRIOR = GaussianPrior(Posterior(np.zeros(SIZE), np.eye(SIZE) / SPREAD**2))
PLAIN = ResponseModel()


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(0)
    found = []
    for number, taste in enumerate(SPREAD * rng.standard_normal((PEOPLE, SIZE))):
        asked, predicted = rng.standard_normal((12, SIZE)), rng.standard_normal((60, SIZE))
        labels = [choose(rows @ taste, np.zeros(len(rows)), rng) for rows in (asked, predicted)]
        found.append(RecordedPerson(asked, labels[0], predicted, labels[1], f"I am {number}."))
    return found


@pytest.fixture(scope="module")
def evidence(people):
    return Evidence.of(people, PRIOR, PLAIN, np.random.default_rng(0))


def test_answers_of_ones_own_help(evidence):
    assert evidence.personal[-1].accuracy.low > 0.6


@pytest.mark.parametrize("control", ["swapped", "shuffled"])
def test_answers_of_another_or_in_random_order_help_nobody(evidence, control):
    assert getattr(evidence, control)[-1].accuracy.mean < evidence.personal[-1].accuracy.low


def test_a_swapped_person_keeps_only_what_is_predicted(people):
    one = swapped(people)[0]
    assert one.predicted is people[0].predicted
    assert (one.asked is people[1].asked, one.about) == (True, "I am 1.")


def test_a_shuffled_person_gave_the_same_answers_to_other_questions(people):
    one = shuffled(people, np.random.default_rng(0))[0]
    assert one.asked is people[0].asked
    assert sorted(one.asked_labels) == sorted(people[0].asked_labels)
    assert (one.asked_labels != people[0].asked_labels).any()


def test_without_correction_people_drawn_from_the_prior_are_told_what_comes_true(people):
    for row in check_certainty(people, PRIOR, PLAIN, CertaintyCurve.identity(), (0, 5)):
        assert row.told == pytest.approx(row.realised, abs=0.15)


def test_the_curve_changes_what_is_told_and_not_what_comes_true(people):
    half = CertaintyCurve(np.array([0.0, 1.0]), np.array([0.0, 0.5]))
    plain, halved = (
        check_certainty(people, PRIOR, PLAIN, curve, (5,))[0] for curve in (CertaintyCurve.identity(), half)
    )
    assert halved.told == pytest.approx(plain.told / 2.0)
    assert halved.realised == plain.realised


def test_nobody_gives_no_rows():
    assert check_certainty([], PRIOR, PLAIN, CertaintyCurve.identity()) == []
