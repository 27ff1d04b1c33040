"""A prior that reads: words that tell shift it, others do not."""

import numpy as np
import pytest

from app.api.schemas import LONGEST_ABOUT
from app.preferences.priors.about import AboutFit, AboutPrior
from app.preferences.priors.words import MOST_WORDS, hashed_words
from tests.unit.preferences.priors.crowds import answered
from tests.unit.preferences.worlds import unchecked_shapes

TASTES = np.array([[1.5, 0.0], [-1.5, 0.0]])
TEXTS = ["I enjoy long detailed essays", "Short plain answers please"]


@pytest.fixture(scope="module")
def reading() -> AboutPrior:
    rng = np.random.default_rng(0)
    kinds = np.arange(80) % 2
    coefficients = TASTES[kinds] + 0.3 * rng.standard_normal((80, 2))
    texts = [None if person % 10 == 9 else TEXTS[kind] for person, kind in enumerate(kinds)]
    with unchecked_shapes():
        return AboutFit()(*answered(coefficients, 15, rng), texts, rng)


@pytest.mark.parametrize("kind", [0, 1])
def test_words_that_tell_shift_the_mean_towards_those_who_used_them(reading: AboutPrior, kind: int) -> None:
    assert reading.told(TEXTS[kind]).population.mean[0] * TASTES[kind, 0] > 0.8


def test_what_is_left_after_reading_is_narrower(reading: AboutPrior) -> None:
    assert reading.residual.std()[0] < 0.6 * reading.population.std()[0]


@pytest.mark.parametrize("about", [None, "", "!?", "zyzzyva"])
def test_saying_nothing_known_leaves_the_plain_population(reading: AboutPrior, about: str | None) -> None:
    assert reading.told(about) is reading


def test_words_that_tell_nothing_are_not_read() -> None:
    rng = np.random.default_rng(1)
    texts = [TEXTS[index] for index in rng.integers(0, 2, 40)]
    with unchecked_shapes():
        prior = AboutFit()(*answered(rng.standard_normal((40, 2)), 15, rng), texts, rng)
    assert np.abs(prior.told(TEXTS[0]).population.mean - prior.population.mean).max() < 0.35


def test_without_texts_nothing_is_read() -> None:
    rng = np.random.default_rng(2)
    with unchecked_shapes():
        prior = AboutFit()(*answered(np.ones((12, 2)), 5, rng), None, rng)
    assert prior.told(TEXTS[0]) is prior


def test_a_text_for_every_person_is_asked_for() -> None:
    rng = np.random.default_rng(3)
    with unchecked_shapes(), pytest.raises(ValueError, match="3 people"):
        AboutFit()(*answered(np.ones((3, 2)), 5, rng), ["one"], rng)


def test_the_same_words_have_the_same_features_in_any_case() -> None:
    np.testing.assert_array_equal(hashed_words(["Long ESSAYS"]), hashed_words(["long essays!"]))


def test_word_order_tells_through_neighbours() -> None:
    assert (hashed_words(["not good but bad"]) != hashed_words(["not bad but good"])).any()


def test_words_beyond_the_most_that_count_change_nothing() -> None:
    text = "a " * MOST_WORDS
    np.testing.assert_array_equal(hashed_words([text]), hashed_words([text + "and so on"]))


def test_the_most_words_are_as_many_as_the_longest_text_that_callers_may_send_can_hold() -> None:
    assert len("a " * MOST_WORDS) >= LONGEST_ABOUT


def test_priors_do_not_share_what_they_read(reading: AboutPrior) -> None:
    silent = AboutPrior(reading.population, reading.residual, np.zeros_like(reading.slopes), reading.rarity)
    reading.told(TEXTS[0])
    assert silent.told(TEXTS[0]) is silent


@pytest.mark.parametrize("seed", range(4))
def test_huge_differences_with_one_answer_each_are_fitted(seed: int) -> None:
    rng = np.random.default_rng(seed)
    differences, answers = 1e4 * rng.standard_normal((60, 4)), (rng.random(60) < 0.5).astype(np.float64)
    with unchecked_shapes():
        prior = AboutFit()(differences, answers, np.arange(60), [f"word{person % 3}" for person in range(60)], rng)
    assert (prior.population.std() < 1.0).all()
