import numpy as np
import pytest

from app.training.bundle import PER_HELD_OUT_PERSON, PER_PERSON, Texts, simulated_comparisons, simulated_part, user
from app.training.dataset import ComparisonData

PEOPLE = 60


@pytest.fixture(scope="module")
def table():
    groups = [(user(f"Question {i}?"), tuple(f"Answer {j}. " * (1 + j) for j in range(3))) for i in range(6)]
    texts = Texts(groups[:2], groups[2:4], groups[4:])
    return ComparisonData.of(simulated_comparisons(texts, PEOPLE, np.random.default_rng(0)))


def test_everyone_compares_every_kind_of_text_and_held_out_people_more_of_it(table):
    held_out = np.array([simulated_part(name) > 0 for name in table.names])
    expected = np.where(held_out, sum(PER_HELD_OUT_PERSON.values()), sum(PER_PERSON.values()))
    assert (np.bincount(table.people) == expected).all()


def test_a_comparison_is_between_responses_to_one_prompt(table):
    prompts = [prompt[0].content for prompt, _ in table.rows]
    assert all(prompts[i] == prompts[j] for i, j in zip(table.first, table.second, strict=True))


def test_about_half_of_the_people_write_of_themselves(table):
    assert 0.3 < np.mean([about is not None for about in table.about]) < 0.7


def test_held_out_people_write_in_wordings_of_their_own(table):
    def second_words(held_out):
        written = zip(table.names, table.about, strict=True)
        return {about.split()[1] for name, about in written if about and (simulated_part(name) > 0) == held_out}

    assert second_words(held_out=True) <= {"appreciate", "for", "would"}
    assert not second_words(held_out=False) & {"appreciate", "would"}


@pytest.mark.parametrize(("name", "part"), [("sim:0", 0), ("sim:17", 0), ("sim:18", 1), ("sim:2009", 2)])
def test_a_tenth_each_is_made_for_calibration_and_test(name, part):
    assert simulated_part(name) == part
