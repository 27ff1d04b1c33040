import math

import numpy as np
import pytest
import torch

from app.entities import Message
from app.rewards.language import load_language_model
from app.training.frontier.fluency import log_probabilities, repetition
from tests.fakes.tiny_model import write_tiny_model

PROMPT = (Message("user", "Say something."),)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_language_model(write_tiny_model(tmp_path_factory.mktemp("model")))


def test_a_text_without_repetition_has_none():
    assert repetition("one two three four five six") == 0.0


def test_a_loop_is_almost_all_repetition():
    assert repetition("la la la la la la la la la la la la") == pytest.approx(8 / 9)


def test_log_probabilities_are_those_of_token_after_token(model):
    ids, response = model.tokenizer.prompt_ids(PROMPT), model.tokenizer.response_ids("Hello!")
    total = 0.0
    for place, token in enumerate(response):
        _, state = model.network.prefill(torch.tensor([[*ids, *response[:place]]]))
        logits = model.network.logits(state).clone()
        logits[:, list(model.tokenizer.banned_ids)] = -math.inf
        total += float(logits.log_softmax(-1)[0, token])
    assert log_probabilities(model, [(PROMPT, "Hello!")])[0] == pytest.approx(total / len(response), abs=1e-4)


def test_texts_of_different_lengths_do_not_disturb_one_another(model):
    rows = [(PROMPT, "Yes."), (PROMPT, "A much longer text than the others."), (PROMPT, "No")]
    alone = [log_probabilities(model, [row])[0] for row in rows]
    assert log_probabilities(model, rows) == pytest.approx(alone, abs=1e-4)


def test_a_response_without_tokens_has_no_log_probability(model):
    assert np.isnan(log_probabilities(model, [(PROMPT, "")])[0])
