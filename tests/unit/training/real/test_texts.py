import numpy as np
import pytest

from app.entities import Message
from app.rewards.language import load_language_model
from app.training.evaluation.real.texts import RawFeatures, Text, fitted, raw_features, shortened
from tests.fakes.tiny_model import write_tiny_model

QUESTION = (Message("user", "why?"),)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(directory):
    return load_language_model(directory)


def test_a_text_that_fits_is_read_whole(model):
    assert fitted(Text(QUESTION, "because", "because"), model) == (QUESTION, "because")


def test_conversation_and_response_fit_into_the_context_once_cut(model):
    long = Text(
        (Message("user", "q" * 900), Message("assistant", "a" * 900), Message("user", "r" * 900)), "b" * 900, ""
    )
    conversation, response = fitted(long, model)
    used = len(model.tokenizer.prompt_ids(conversation)) + len(model.tokenizer.response_ids(response))
    assert used <= model.context


def test_no_message_of_a_long_conversation_is_lost(model):
    long = Text((Message("user", "q" * 900), Message("assistant", "a" * 900), Message("user", "r" * 900)), "b", "")
    assert all(message.content for message in fitted(long, model)[0])


def test_a_long_text_keeps_its_beginning(model):
    assert shortened("abc" * 50, 9, model.tokenizer) == "abcabcabc"


def test_long_and_short_texts_have_features_of_one_length(directory):
    features = raw_features((Text(QUESTION, "b" * 900, "b"), Text(QUESTION, "short", "short")), directory)
    assert features.states.shape == (2, 32)


def test_unknown_rows_do_not_move_the_scale():
    rng = np.random.default_rng(0)
    raw = RawFeatures(rng.standard_normal((30, 3)), rng.standard_normal((30, 2)))
    known = np.arange(30) < 20
    wild = RawFeatures(np.where(known[:, None], raw.states, 50.0), np.where(known[:, None], raw.counts, 50.0))
    assert np.array_equal(raw.standardised(known)[known], wild.standardised(known)[known])


def test_a_count_that_never_varies_is_zero():
    raw = RawFeatures(np.random.default_rng(0).standard_normal((9, 2)), np.full((9, 1), 3.0))
    assert not raw.standardised(np.ones(9, dtype=bool))[:, 2].any()
