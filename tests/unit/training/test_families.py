import numpy as np

from app.preferences.priors.gaussian import GaussianFit
from app.training.families import fit_prior
from app.training.people import choose
from app.training.replay import RecordedPerson

SIZE, PEOPLE, EACH = 2, 60, 20
FAMILIES = (GaussianFit(),)


def drawn(rng, *, telling):
    """Comparisons of people whose words say which side of the first axis they are on, or say nothing."""
    tastes = np.array([2.0, 0.5]) * np.sign(rng.standard_normal((PEOPLE, SIZE)))
    words = [("more please" if taste > 0 else "much less") if telling else "hello" for taste in tastes[:, 0]]
    rows = rng.standard_normal((PEOPLE, 2 * EACH, SIZE))
    labels = choose(np.einsum("pnk,pk->pn", rows, tastes).ravel(), np.zeros(2 * PEOPLE * EACH), rng)
    return rows, labels.reshape(PEOPLE, 2 * EACH), words


def fitted(*, telling):
    rng = np.random.default_rng(0)
    rows, labels, words = drawn(rng, telling=telling)
    people = np.repeat(np.arange(PEOPLE), 2 * EACH)
    new_rows, new_labels, new_words = drawn(rng, telling=telling)
    calibration = [
        RecordedPerson(rows_[:EACH], answers[:EACH], rows_[EACH:], answers[EACH:], text)
        for rows_, answers, text in list(zip(new_rows, new_labels, new_words, strict=True))[:15]
    ]
    return fit_prior(rows.reshape(-1, SIZE), labels.ravel(), people, words, calibration, rng, FAMILIES)


def test_words_that_tell_a_taste_are_read():
    found = fitted(telling=True)
    assert found.prior.family == "about"
    assert found.reading[0] > found.reading[1] > 0


def test_words_that_tell_nothing_are_not_read():
    assert fitted(telling=False).prior.family == "gaussian"


def test_without_words_there_is_nothing_to_judge():
    rng = np.random.default_rng(0)
    rows, labels, _ = drawn(rng, telling=False)
    people = np.repeat(np.arange(PEOPLE), 2 * EACH)
    found = fit_prior(rows.reshape(-1, SIZE), labels.ravel(), people, [None] * PEOPLE, [], rng, FAMILIES)
    assert found.reading is None
