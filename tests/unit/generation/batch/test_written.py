from collections.abc import Sequence

import pytest

from app.generation.batch.written import TextStream, clean, stop_place, tokens_within
from app.rewards.language import LanguageModel


def _pieces(texts: Sequence[str], stop: Sequence[str] = (), last: str | None = None) -> list[str]:
    told: list[str] = []
    stream = TextStream(stop, told.append)
    for text in texts:
        stream.advance(text)
    stream.finish(clean(texts[-1]) if last is None else last)
    return told


def _growing(text: str) -> list[str]:
    return [text[:length] for length in range(1, len(text) + 1)]


@pytest.mark.parametrize("text", ["One two.", "  One\n\ntwo \n ", "\ufffdOne \ufffd\ufffd", "One \ufffd two", " ", ""])
def test_the_pieces_together_are_the_cleaned_text(text: str) -> None:
    assert "".join(_pieces(_growing(text) or [""])) == clean(text)


def test_a_piece_comes_as_soon_as_it_is_certain() -> None:
    assert _pieces(["One", "One two", "One two."]) == ["One", " two", "."]


def test_half_a_character_is_held_back() -> None:
    assert _pieces(["One \ufffd", "One é"]) == ["One", " é"]


def test_blanks_that_may_end_the_text_are_held_back() -> None:
    assert _pieces(["One ", "One \n", "One \ntwo"]) == ["One", " \ntwo"]


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    assert _pieces(["One E", "One EN", "One ENough"], stop=("END",)) == ["One", " ENough"]


def test_a_stop_string_is_never_told_of() -> None:
    assert _pieces(_growing("One two EN"), stop=("END",), last="One two") == list(_pieces(_growing("One two")))


def test_a_stop_string_that_begins_the_text_is_never_told_of() -> None:
    assert _pieces(["E", "EN", "END"], stop=("END OF",), last="") == []


def test_half_a_character_may_belong_to_a_stop_string() -> None:
    assert _pieces(["One é\ufffd"], stop=("é\ufffd\ufffd",), last="One") == ["One"]


@pytest.mark.parametrize(
    ("text", "stop", "place"), [("abcdef", ("cd",), 2), ("abcdef", ("x", "e", "c"), 2), ("ab", ("c",), None)]
)
def test_the_first_stop_string_is_found(
    model: LanguageModel, text: str, stop: tuple[str, ...], place: int | None
) -> None:
    assert stop_place(model.tokenizer, model.tokenizer.response_ids(text), stop) == place


def test_without_stop_strings_there_is_no_place(model: LanguageModel) -> None:
    assert stop_place(model.tokenizer, model.tokenizer.response_ids("abc"), ()) is None


@pytest.mark.parametrize("stop", ["é", "日本", "a日"])
def test_a_stop_string_of_many_bytes_is_found_when_its_last_byte_comes(model: LanguageModel, stop: str) -> None:
    ids = model.tokenizer.response_ids("x" * 100 + stop)
    places = [stop_place(model.tokenizer, ids[:length], (stop,)) for length in range(1, len(ids) + 1)]
    assert places == [None] * (len(ids) - 1) + [100]


def test_as_few_tokens_are_kept_as_the_text_needs(model: LanguageModel) -> None:
    ids = model.tokenizer.response_ids("aé日")
    assert [tokens_within(model.tokenizer, ids, characters) for characters in range(4)] == [0, 1, 3, 6]
