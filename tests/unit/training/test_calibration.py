import numpy as np
import pytest

from app.preferences.answers import ResponseModel
from app.preferences.posterior import Posterior
from app.preferences.priors.gaussian import GaussianPrior
from app.training.calibration import choose_response, choose_scale, choose_trust, fit_certainty, tie_strength, trusted
from app.training.people import choose
from app.training.replay import RecordedPerson, Replayed, replay

SIZE, PEOPLE = 3, 5
PRIOR = GaussianPrior(Posterior(np.array([0.5, 0.0, 0.0]), np.eye(SIZE) / 1.5**2))


def draw_people(lapse=0.0, people=PEOPLE):
    rng = np.random.default_rng(0)
    found = []
    for taste in PRIOR.population.mean + 1.5 * rng.standard_normal((people, SIZE)):
        asked, predicted = rng.standard_normal((25, SIZE)), rng.standard_normal((100, SIZE))
        labels = []
        for rows in (asked, predicted):
            meant = choose(rows @ taste, np.zeros(len(rows)), rng)
            labels.append(np.where(rng.random(len(rows)) < lapse, (rng.random(len(rows)) < 0.5) * 1.0, meant))
        found.append(RecordedPerson(asked, labels[0], predicted, labels[1]))
    return found


@pytest.fixture(scope="module")
def true_people():
    return draw_people()


def test_true_people_need_little_correction(true_people):
    response = choose_response(true_people, PRIOR, np.random.default_rng(0))
    assert response.exponent >= 0.55
    assert response.lapse <= 0.05
    assert response.tie_strength is None


def test_people_who_often_lapse_are_trusted_less():
    response = choose_response(draw_people(lapse=0.3), PRIOR, np.random.default_rng(0))
    assert response.lapse > 0.0 or response.exponent < 1.0


def test_without_people_nothing_is_corrected():
    assert choose_response([], PRIOR, np.random.default_rng(0)) == ResponseModel()
    assert choose_scale([], PRIOR, np.random.default_rng(0)) == 1.0


def test_rewards_that_say_less_on_new_texts_are_scaled_down(true_people):
    exaggerated = [one.scaled(1.0 / 0.4) for one in true_people]
    assert choose_scale(exaggerated, PRIOR, np.random.default_rng(0)) <= 0.55
    assert choose_scale(true_people, PRIOR, np.random.default_rng(0)) >= 0.7


def test_tie_strength_is_recovered_from_simulated_ties():
    rng = np.random.default_rng(0)
    margins, strength = 1.5 * rng.standard_normal(20_000), 0.8
    tied = rng.random(len(margins)) < strength / (strength + 2.0 * np.cosh(margins / 2.0))
    labels = np.where(tied, 0.5, (rng.random(len(margins)) < 1.0 / (1.0 + np.exp(-margins))) * 1.0)
    found = tie_strength([Replayed({20: 1.0 / (1.0 + np.exp(-margins))}, labels)])
    assert found == pytest.approx(strength, rel=0.15)  # the grid's step


def test_certainty_told_through_the_curve_comes_true(true_people):
    curve = fit_certainty(true_people, PRIOR, ResponseModel())
    replays = [replay(person, PRIOR, ResponseModel(), (10,)) for person in true_people]
    told = np.mean([curve(float(np.abs(2.0 * one.probabilities[10] - 1.0).mean())) for one in replays])
    realised = np.mean([(np.sign(one.probabilities[10] - 0.5) * (2.0 * one.labels - 1.0)).mean() for one in replays])
    assert told == pytest.approx(realised, abs=0.08)


def test_the_same_generator_gives_the_same_response():
    many = draw_people(people=2)
    first, second = (choose_response(many, PRIOR, np.random.default_rng(3)) for _ in range(2))
    assert first == second


def test_a_population_that_misleads_is_not_trusted(true_people):
    misleading = GaussianPrior(Posterior(np.array([-2.0, 0.0, 0.0]), PRIOR.population.precision))
    assert choose_trust(true_people, misleading, np.random.default_rng(0)) == 0.0


def test_a_trusted_population_keeps_its_spread():
    halved = trusted(PRIOR, 0.5)
    assert halved.population.mean == pytest.approx(0.5 * PRIOR.population.mean)
    assert np.array_equal(halved.population.precision, PRIOR.population.precision)
