import numpy as np
import pytest

from app.training.people import SimulatedPeople, choose, draw_tastes
from app.training.properties import PROPERTIES, PropertyScale, measure

NAMES = [one.name for one in PROPERTIES]
PLAIN = "Boil the water. Add the rice. Wait until it is soft."


@pytest.mark.parametrize(
    ("name", "more", "less"),
    [
        ("length", PLAIN + " " + PLAIN, PLAIN),
        ("structure", "1. Boil the water.\n2. Add the rice.\n3. Wait.", PLAIN),
        (
            "formality",
            "It is therefore advisable to ensure that the water boils.",
            "Hey, just grab some water, it's cool.",
        ),
        ("warmth", "I hope you enjoy it, and thank you for your care.", "The rice is boiled in water for ten minutes."),
        ("questions", "How many people are coming? What do they like?", PLAIN),
        ("simplicity", PLAIN, "Gelatinisation necessitates sustained hydrothermal exposure of amylopectin granules."),
        ("concreteness", "Use 200 grams for 2 people, for example Basmati.", PLAIN),
        ("hedging", "Perhaps it might be soft; it usually depends.", PLAIN),
        ("enthusiasm", "This is amazing! What a wonderful, delicious dish!", PLAIN),
        ("voice", "I use my own pot, and I love it.", PLAIN),
    ],
)
def test_each_property_rises_with_what_it_is_named_after(name, more, less):
    index = NAMES.index(name)
    assert measure(more)[index] > measure(less)[index]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "!!!", "1.", "12 34"])
def test_odd_texts_have_finite_values(text):
    assert np.isfinite(measure(text)).all()


def test_one_runaway_word_does_not_hide_how_simple_other_texts_are():
    texts = [PLAIN, "Gelatinisation necessitates sustained hydrothermal exposure of amylopectin granules."] * 20
    tamed, spoilt = (
        PropertyScale.of([*texts, extra]).spread[NAMES.index("simplicity")] for extra in (PLAIN, "ha" * 500)
    )
    assert spoilt < 1.5 * tamed


def test_standard_scores_have_mean_zero_and_unit_spread_on_their_own_texts():
    texts = [PLAIN * n for n in range(1, 30)]
    length = PropertyScale.of(texts).standardise(texts)[:, 0]
    assert length.mean() == pytest.approx(0, abs=0.1)
    assert length.std() == pytest.approx(1, abs=0.1)


def test_a_scale_survives_being_written_as_numbers():
    scale = PropertyScale.of([PLAIN, PLAIN * 2])
    np.testing.assert_array_equal(PropertyScale.load(scale.dump()).centre, scale.centre)


def test_tastes_share_a_common_part_and_differ_in_at_least_eight_directions():
    tastes = draw_tastes(4000, np.random.default_rng(0))
    assert tastes.mean(0)[NAMES.index("concreteness")] > 0.3
    assert (np.linalg.eigvalsh(np.cov(tastes.T)) > 0.2).sum() >= 8
    assert ((tastes > 0).mean(0) < 0.95).all()


def test_a_person_chooses_what_they_like_more_in_proportion_to_the_odds():
    rng = np.random.default_rng(0)
    answers = choose(np.full(20000, 1.0), np.zeros(20000), rng)
    assert answers.mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.01)


def test_rewards_are_the_taste_times_the_standard_scores():
    scale = PropertyScale.of([PLAIN, "Hello there!", "Why?"])
    people = SimulatedPeople(draw_tastes(3, np.random.default_rng(0)), scale)
    np.testing.assert_allclose(people.rewards([PLAIN])[:, 0], people.tastes @ scale.standardise([PLAIN])[0])
