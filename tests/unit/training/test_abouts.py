import numpy as np
import pytest

from app.training.abouts import write_about
from app.training.properties import PROPERTIES

NAMES = [one.name for one in PROPERTIES]


def taste(**weights):
    return np.array([weights.get(name, 0.0) for name in NAMES])


def written(one, *, held_out=False, count=200):
    rng = np.random.default_rng(0)
    return {write_about(one, rng, held_out=held_out) for _ in range(count)}


def test_the_strongest_taste_is_always_told():
    texts = written(taste(questions=-2.0, length=1.0))
    assert all("question" in text or "asked" in text for text in texts)


def test_at_most_three_tastes_are_told():
    assert max(text.count(".") for text in written(np.linspace(1.0, 2.0, len(NAMES)))) == 3


def test_more_and_less_of_a_taste_are_told_in_other_words():
    assert not written(taste(simplicity=3.0)) & written(taste(simplicity=-3.0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", [-1.0, 1.0])
def test_held_out_people_use_wordings_of_their_own(name, weight):
    one = taste(**{name: weight})
    wishes = {text.split(".")[0] for text in written(one)}
    assert not wishes & {text.split(".")[0] for text in written(one, held_out=True)}


def test_the_same_taste_is_told_in_several_ways():
    assert len(written(taste(warmth=1.0))) > 10
