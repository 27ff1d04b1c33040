import numpy as np
import pytest
import torch

from app.entities import Message
from app.rewards.language import LanguageModel, load_language_model
from app.training.values.rollouts import Rollout, roll_out
from tests.fakes.tiny_model import write_tiny_model

PROMPTS = [(Message("user", text),) for text in ("Hi", "What is soup?", "A somewhat longer question about bread?")]
MAX_TOKENS = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    return load_language_model(write_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def rollouts(model: LanguageModel) -> list[Rollout]:
    return list(roll_out(model, PROMPTS, 6, max_tokens=MAX_TOKENS, seed=1))


def states_of(model: LanguageModel, prompt: int, tokens: list[int]) -> np.ndarray:
    """States from the prompt's last token on, all read at once."""
    ids = model.tokenizer.prompt_ids(PROMPTS[prompt])
    cache = model.network.new_cache(1, len(ids) + len(tokens))
    states = model.network.forward(model.tensor([[*ids, *tokens]]), cache)[0]
    return np.asarray(states[len(ids) - 1 :].numpy())


def test_every_prompt_gets_its_responses(rollouts: list[Rollout]) -> None:
    assert [one.prompt for one in rollouts] == [0] * 6 + [1] * 6 + [2] * 6


def test_states_are_those_of_reading_the_response(model: LanguageModel, rollouts: list[Rollout]) -> None:
    for one in rollouts:
        np.testing.assert_allclose(one.states, states_of(model, one.prompt, one.tokens.tolist()), atol=5e-3)


def test_another_tokens_state_is_that_of_reading_it_instead(model: LanguageModel, rollouts: list[Rollout]) -> None:
    for one in rollouts:
        place = len(one.others) - 1
        expected = states_of(model, one.prompt, [*one.tokens[:place].tolist(), int(one.others[place])])[-1]
        np.testing.assert_allclose(one.other_states[place], expected, atol=5e-3)


def test_some_responses_end_and_some_are_cut(rollouts: list[Rollout]) -> None:
    assert {one.ended for one in rollouts} == {True, False}
    assert all(one.ended == (len(one.tokens) < MAX_TOKENS) for one in rollouts)


def test_no_response_is_empty_or_holds_a_special_token(model: LanguageModel, rollouts: list[Rollout]) -> None:
    special = {*model.tokenizer.end_ids, *model.tokenizer.banned_ids}
    assert all(len(one.tokens) and not special & set(one.tokens.tolist()) for one in rollouts)


def test_an_ended_response_has_another_token_instead_of_its_end_mark(rollouts: list[Rollout]) -> None:
    assert all(len(one.others) == len(one.tokens) + one.ended for one in rollouts)


def test_the_same_seed_gives_the_same_responses(model: LanguageModel, rollouts: list[Rollout]) -> None:
    again = roll_out(model, PROMPTS, 6, max_tokens=MAX_TOKENS, seed=1)
    assert all((one.tokens == other.tokens).all() for one, other in zip(rollouts, again, strict=True))


def test_a_prompt_without_room_is_left_out(model: LanguageModel) -> None:
    long = (Message("user", "x" * model.context),)
    found = list(roll_out(model, [long, PROMPTS[0]], 1, max_tokens=4))
    assert [one.prompt for one in found] == [1]
