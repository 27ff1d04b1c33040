"""Basis rewards from another server's log-probabilities, computed here by transformers from an exported checkpoint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from app.entities import Conversation, Message, SamplingOptions
from app.errors import ArtifactIncompatible, EngineUnreachable
from app.generation.upstream.upstream_replies import Choice
from app.generation.upstream.virtual_rewards import VirtualRewards, read_export
from app.rewards.artifact import BasisArtifact
from app.rewards.export import export_checkpoint
from app.rewards.language import LanguageModel
from app.rewards.scorer import LanguageModelTrunk, basis_rewards
from tests.fakes.tiny_model import write_tiny_basis

OPTIONS = SamplingOptions(max_tokens=9, temperature=1.0, top_p=1.0, seed=3)
QUESTION: Conversation = (Message("user", "Say <|end|> something"),)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, basis: BasisArtifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_checkpoint(checkpoint, basis, tmp_path_factory.mktemp("exported")).directory


@pytest.fixture(scope="module")
def virtual(exported: Path, basis: BasisArtifact, model: LanguageModel) -> VirtualRewards:
    return VirtualRewards(read_export(exported, basis), model.tokenizer)


def _served(exported: Path, virtual: VirtualRewards, prompt: list[int], response: list[int]) -> Choice:
    """What a server that was asked as ``virtual`` asks answers if it draws ``response``."""
    network = AutoModelForCausalLM.from_pretrained(exported)
    with torch.inference_mode():
        logits = network(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    logprobs = logits.float().log_softmax(-1)
    wanted = virtual.asked(OPTIONS)["logprob_token_ids"]
    content = [
        {"top_logprobs": [{"token": f"token_id:{token}", "logprob": float(row[token])} for token in wanted]}
        for row in logprobs
    ]
    text = virtual.tokenizer.text(response)
    found = {"message": {"content": text}, "finish_reason": "length", "token_ids": response}
    return Choice.model_validate({**found, "logprobs": {"content": content}})


def _ids(virtual: VirtualRewards, text: str) -> list[int]:
    return virtual.tokenizer.response_ids(text)


def _expected(model: LanguageModel, basis: BasisArtifact, text: str) -> np.ndarray:
    return basis_rewards(LanguageModelTrunk(model), basis, [(QUESTION, text)])[0]


@pytest.fixture(scope="module")
def prompt(model: LanguageModel) -> list[int]:
    return model.tokenizer.prompt_ids(QUESTION)


def test_a_full_answer_has_the_rewards_that_the_trunk_reads(
    exported: Path, virtual: VirtualRewards, model: LanguageModel, basis: BasisArtifact, prompt: list[int]
) -> None:
    found = virtual.candidate(_served(exported, virtual, prompt, _ids(virtual, "warm-teas!")), OPTIONS)
    assert found is not None
    assert (found.text, found.tokens, found.finish_reason) == ("warm-teas", 9, "length")
    np.testing.assert_allclose(found.basis_rewards, _expected(model, basis, "warm-teas"), atol=1e-4)


def test_an_answer_that_ended_has_the_rewards_that_the_trunk_reads(
    exported: Path, virtual: VirtualRewards, model: LanguageModel, basis: BasisArtifact, prompt: list[int]
) -> None:
    served = _served(exported, virtual, prompt, [*_ids(virtual, "teas"), virtual.tokenizer.end_ids[0]])
    found = virtual.candidate(served.model_copy(update={"finish_reason": "stop"}), OPTIONS)
    assert found is not None
    assert (found.text, found.tokens, found.finish_reason) == ("teas", 4, "stop")
    np.testing.assert_allclose(found.basis_rewards, _expected(model, basis, "teas"), atol=1e-4)


def test_an_answer_that_ended_with_its_last_token_ran_out_of_room(
    exported: Path, virtual: VirtualRewards, prompt: list[int]
) -> None:
    served = _served(exported, virtual, prompt, [*_ids(virtual, "warm-teas"), virtual.tokenizer.end_ids[0]])
    found = virtual.candidate(served.model_copy(update={"finish_reason": "stop"}), OPTIONS)
    assert found is not None
    assert found.finish_reason == "length"


def test_an_empty_answer_has_the_rewards_of_its_prompt(
    exported: Path, virtual: VirtualRewards, model: LanguageModel, basis: BasisArtifact, prompt: list[int]
) -> None:
    found = virtual.candidate(_served(exported, virtual, prompt, [virtual.tokenizer.end_ids[0]]), OPTIONS)
    assert found is not None
    np.testing.assert_allclose(found.basis_rewards, _expected(model, basis, ""), atol=1e-4)


def test_what_follows_a_stop_string_does_not_count(
    exported: Path, virtual: VirtualRewards, model: LanguageModel, basis: BasisArtifact, prompt: list[int]
) -> None:
    served = _served(exported, virtual, prompt, _ids(virtual, "warm-te"))
    found = virtual.candidate(served, replace(OPTIONS, stop=("-t",)))
    assert found is not None
    assert (found.text, found.finish_reason) == ("warm", "stop")
    np.testing.assert_allclose(found.basis_rewards, _expected(model, basis, "warm"), atol=1e-4)


def test_the_rewards_of_a_last_token_that_nothing_follows_are_not_told(
    exported: Path, virtual: VirtualRewards, prompt: list[int]
) -> None:
    served = _served(exported, virtual, prompt, _ids(virtual, "warm"))
    assert virtual.candidate(served, OPTIONS) is None


def test_special_tokens_that_a_person_wrote_reach_the_server_as_plain_text(virtual: VirtualRewards) -> None:
    assert virtual.messages(QUESTION) == [{"role": "user", "content": "Say < |end|> something"}]


def test_no_virtual_token_may_be_drawn(virtual: VirtualRewards) -> None:
    rows = virtual.export.rows
    assert {str(token) for token in range(rows.first, rows.end)} <= set(virtual.unspoken()["logit_bias"])


def test_the_end_of_a_response_may_be_drawn(virtual: VirtualRewards) -> None:
    assert not {str(token) for token in virtual.tokenizer.end_ids} & set(virtual.unspoken()["logit_bias"])


def test_an_answer_without_tokens_is_refused_with_the_remedy(virtual: VirtualRewards) -> None:
    with pytest.raises(EngineUnreachable, match="leave the export out"):
        virtual.candidate(Choice.model_validate({"message": {"content": "warm"}}), OPTIONS)


def test_an_answer_without_the_reward_rows_is_refused_with_the_remedy(virtual: VirtualRewards) -> None:
    found = {"message": {"content": "w"}, "token_ids": [5, 2], "logprobs": {"content": [{"top_logprobs": []}] * 2}}
    with pytest.raises(EngineUnreachable, match="serves the checkpoint"):
        virtual.candidate(Choice.model_validate(found), OPTIONS)


def test_an_export_of_another_basis_is_refused(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactIncompatible, match="holds basis"):
        read_export(exported, write_tiny_basis(tmp_path, checkpoint, seed=9))
