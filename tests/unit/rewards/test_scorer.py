from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from app.entities import Conversation, Message
from app.errors import NonFiniteReward, PromptTooLong
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel
from app.rewards.scorer import LanguageModelTrunk, basis_rewards, pooled_features
from app.rewards.trunk import Row

TOLERANCE = 1e-4  # fp32 rounding through three layers


def _ask(text: str) -> Conversation:
    return (Message("user", text),)


ROWS: list[Row] = [
    (_ask("Name a fruit."), "Apple, or a pear."),
    (_ask("Why?"), "Because."),
    (_ask("Name a fruit."), ""),
    (_ask("Name a fruit."), "A banana is a fruit that most people like."),
    (_ask("A longer question, with a clause?"), "Yes."),
]


def _expected(model: LanguageModel, reference: Any, row: Row) -> torch.Tensor:
    prompt, response = model.tokenizer.prompt_ids(row[0]), model.tokenizer.response_ids(row[1])
    with torch.no_grad():
        states = reference.model(torch.tensor([prompt + response])).last_hidden_state[0]
    return states[len(prompt) :].mean(dim=0) if response else states[-1]


def test_features_are_the_mean_state_of_the_response_by_transformers(model: LanguageModel, reference: Any) -> None:
    expected = torch.stack([_expected(model, reference, row) for row in ROWS])
    np.testing.assert_allclose(pooled_features(model, ROWS), expected.numpy(), atol=TOLERANCE)


@pytest.mark.parametrize("batch_tokens", [1, 60, 100])
def test_how_rows_are_batched_does_not_change_their_features(model: LanguageModel, batch_tokens: int) -> None:
    features = pooled_features(model, ROWS, batch_tokens=batch_tokens)
    np.testing.assert_allclose(features, pooled_features(model, ROWS), atol=TOLERANCE)


def test_both_responses_of_a_pair_score_the_same_alone_and_together(model: LanguageModel) -> None:
    together = pooled_features(model, [ROWS[0], ROWS[3]])
    alone = np.concatenate([pooled_features(model, [ROWS[0]]), pooled_features(model, [ROWS[3]])])
    np.testing.assert_allclose(together, alone, atol=TOLERANCE)


def test_a_long_prompt_beside_a_long_response_may_exceed_the_context_when_padded(model: LanguageModel) -> None:
    def words(count: int) -> str:
        return " ".join(["fruit"] * count)

    def length(row: Row) -> int:
        return int(LanguageModelTrunk(model).token_counts([row])[0])

    most = max(count for count in range(1, 120) if length((_ask(words(count)), "Yes.")) <= model.context)
    rows: list[Row] = [(_ask(words(most)), "Yes."), (_ask("Why?"), words(most))]
    alone = np.concatenate([pooled_features(model, [row]) for row in rows])
    np.testing.assert_allclose(pooled_features(model, rows), alone, atol=TOLERANCE)


def test_blanks_around_a_response_do_not_count(model: LanguageModel) -> None:
    features = pooled_features(model, [(ROWS[0][0], "Apple."), (ROWS[0][0], " Apple.\n")])
    np.testing.assert_allclose(features[0], features[1], atol=TOLERANCE)


def test_no_rows_give_no_features(model: LanguageModel) -> None:
    assert pooled_features(model, []).shape == (0, 32)


def test_rewards_are_the_heads_applied_to_the_features(model: LanguageModel, basis: BasisArtifact) -> None:
    expected = pooled_features(model, ROWS) @ basis.heads.T + basis.offset
    np.testing.assert_allclose(basis_rewards(LanguageModelTrunk(model), basis, ROWS), expected, atol=TOLERANCE)


def test_a_response_that_exceeds_the_context_is_refused(model: LanguageModel) -> None:
    with pytest.raises(PromptTooLong, match="the context holds 256"):
        pooled_features(model, [ROWS[0], (_ask("Why?"), "word " * 60)])


def test_of_a_response_that_is_truncated_the_beginning_is_rewarded(model: LanguageModel, basis: BasisArtifact) -> None:
    trunk, conversation = LanguageModelTrunk(model), _ask("Why?")
    room = model.context - trunk.prompt_count(conversation)
    text = "fruit" * 60  # a token a character
    found = basis_rewards(trunk, basis, [(conversation, text)], truncate=True)
    expected = basis_rewards(trunk, basis, [(conversation, text[:room])])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_a_prompt_that_exceeds_the_context_is_refused_with_or_without_truncation(model: LanguageModel) -> None:
    with pytest.raises(PromptTooLong, match="the context holds 256"):
        pooled_features(model, [(_ask("word " * 60), "Yes.")], truncate=True)


def test_a_reward_that_is_not_finite_is_an_error(model: LanguageModel, basis: BasisArtifact) -> None:
    broken = replace(basis, heads=np.full_like(basis.heads, np.inf))
    with pytest.raises(NonFiniteReward), np.errstate(invalid="ignore"):
        basis_rewards(LanguageModelTrunk(model), broken, ROWS[:1])


def test_a_check_that_raises_ends_the_scoring(model: LanguageModel) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        pooled_features(model, ROWS, check=stop)
