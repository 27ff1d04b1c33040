import pytest

from app.training.language.corpus import Conversation, clean, shorten, split, usable


def test_typographic_punctuation_becomes_plain():
    assert clean("\u201cIt\u2019s  fine\u201d \u2014 really\u2026") == '"It\'s fine" - really...'


def test_runs_of_empty_lines_become_one():
    assert clean("One.\n\n\n \nTwo.\n Three.") == "One.\n\nTwo.\nThree."


@pytest.mark.parametrize(
    "text", ["", "See https://x.y", "```python\nx```", "As an AI I cannot.", "$$x^2$$", "= + * / 1 2 3 4"]
)
def test_code_links_formulas_and_self_reference_are_left_out(text):
    assert not usable(text)


def test_plain_prose_is_kept():
    assert usable("Boil the water, then add the rice. It's done in ten minutes.")


def test_a_long_reply_ends_at_a_sentence():
    text = "This is a sentence of some length. " * 40
    short = shorten(text, 200)
    assert len(short) <= 200
    assert short.endswith("length.")


def test_a_list_does_not_end_with_its_announcement():
    text = "Some words to begin with, enough of them to be kept as they are.\nHere are the steps:\n" + "x" * 500
    assert shorten(text, 120) == "Some words to begin with, enough of them to be kept as they are."


def test_a_long_text_without_a_boundary_is_dropped():
    assert shorten("x" * 500, 200) == ""


def test_the_same_prompt_never_stands_on_both_sides_of_the_split():
    many = [Conversation("d", (("user", f"Question {i % 300}?"), ("assistant", f"Answer {i}."))) for i in range(900)]
    training, held_out = split(many)
    assert held_out
    assert not {one.turns[0] for one in training} & {one.turns[0] for one in held_out}


def test_exact_duplicates_are_read_once():
    one = Conversation("d", (("user", "Hi?"), ("assistant", "Hello.")))
    training, held_out = split([one, one, one])
    assert len(training) + len(held_out) == 1
