from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from app.entities import Candidate, Message, SamplingOptions
from app.errors import ArtifactIncompatible, NonFiniteReward
from app.generation.batch.decoding import Heads, decode
from app.rewards.artifact import BasisArtifact
from app.rewards.language import LanguageModel, load_language_model
from app.rewards.scorer import LanguageModelTrunk, basis_rewards
from tests.fakes.tiny_model import write_tiny_basis, write_tiny_model

SAMPLED = SamplingOptions(max_tokens=24, temperature=1.0, top_p=0.95, seed=11)
LONG = replace(SAMPLED, max_tokens=60)
GREEDY = replace(SAMPLED, temperature=0.0)
CONVERSATION = (Message("user", "Tell me something."),)
TOLERANCE = 1e-4  # fp32 rounding through three layers


def _decode(model: LanguageModel, basis: BasisArtifact, n: int, options: SamplingOptions) -> list[Candidate]:
    ids = model.tokenizer.prompt_ids(CONVERSATION)
    return decode(model, Heads.on(model, basis), ids, n, options, check=lambda: None)


def _ids(model: LanguageModel, candidate: Candidate) -> list[int]:
    return model.tokenizer.response_ids(candidate.text)


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def setting(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BasisArtifact]:
    directory = write_tiny_model(tmp_path_factory.mktemp(request.param), request.param)
    return directory, write_tiny_basis(tmp_path_factory.mktemp("basis"), directory)


def _generate(directory: Path, model: LanguageModel, options: SamplingOptions) -> tuple[str, torch.Tensor]:
    """Greedy text by transformers, and the states (tokens, hidden) of the response."""
    reference: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    prompt = model.tokenizer.prompt_ids(CONVERSATION)
    ids = reference.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt)),
        do_sample=False,
        max_new_tokens=options.max_tokens,
        min_new_tokens=1,
        suppress_tokens=list(model.tokenizer.banned_ids),
        eos_token_id=2,
    )
    response = ids[0, len(prompt) :]
    response = response[response != 2]
    with torch.no_grad():
        states = reference.model(torch.cat([ids[0, : len(prompt)], response])[None]).last_hidden_state[0]
    return model.tokenizer.text(response.tolist()), states[len(prompt) :]


def test_greedy_text_is_that_of_transformers(setting: tuple[Path, BasisArtifact]) -> None:
    directory, basis = setting
    model = load_language_model(directory)
    expected, _ = _generate(directory, model, GREEDY)
    assert _decode(model, basis, 1, GREEDY)[0].text == expected.rstrip("\ufffd").strip()


def test_rewards_come_from_the_states_that_transformers_computes(setting: tuple[Path, BasisArtifact]) -> None:
    directory, basis = setting
    model = load_language_model(directory)
    _, states = _generate(directory, model, GREEDY)
    expected = basis.heads @ states.mean(dim=0).numpy() + basis.offset
    np.testing.assert_allclose(_decode(model, basis, 1, GREEDY)[0].basis_rewards, expected, atol=TOLERANCE)


def test_texts_do_not_depend_on_how_many_are_drawn(model: LanguageModel, basis: BasisArtifact) -> None:
    many = _decode(model, basis, 13, LONG)
    few = [_decode(model, basis, n, LONG)[n - 1] for n in (1, 2, 5)]
    assert [one.text for one in few] == [many[n - 1].text for n in (1, 2, 5)]


def test_rewards_do_not_depend_on_how_many_are_drawn(model: LanguageModel, basis: BasisArtifact) -> None:
    many, one = _decode(model, basis, 13, SAMPLED), _decode(model, basis, 1, SAMPLED)
    np.testing.assert_allclose(one[0].basis_rewards, many[0].basis_rewards, atol=1e-6)


def test_another_seed_draws_other_texts(model: LanguageModel, basis: BasisArtifact) -> None:
    first, second = (_decode(model, basis, 4, replace(SAMPLED, seed=seed)) for seed in (1, 2))
    assert not {one.text for one in first} & {one.text for one in second}


def test_candidates_end_at_different_lengths_by_their_end_token(model: LanguageModel, basis: BasisArtifact) -> None:
    candidates = _decode(model, basis, 64, LONG)
    assert len({one.tokens for one in candidates if one.finish_reason == "stop"}) > 1


def test_a_candidate_that_reaches_the_limit_says_so(model: LanguageModel, basis: BasisArtifact) -> None:
    candidates = _decode(model, basis, 64, SAMPLED)
    assert all(one.tokens == 24 for one in candidates if one.finish_reason == "length")


def test_rewards_of_every_candidate_equal_those_of_its_text(model: LanguageModel, basis: BasisArtifact) -> None:
    candidates = [one for one in _decode(model, basis, 64, SAMPLED) if len(_ids(model, one)) == one.tokens]
    assert len(candidates) > 20
    expected = basis_rewards(LanguageModelTrunk(model), basis, [(CONVERSATION, one.text) for one in candidates])
    found = np.stack([one.basis_rewards for one in candidates])
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_no_candidate_is_empty_though_the_end_is_probable(model: LanguageModel, basis: BasisArtifact) -> None:
    candidates = _decode(model, basis, 64, replace(SAMPLED, temperature=5.0, max_tokens=1))
    assert {one.tokens for one in candidates} == {1}


def test_special_tokens_are_never_generated(
    model: LanguageModel, basis: BasisArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    monkeypatch.setattr(model.tokenizer, "text", lambda ids: seen.update(ids) or "text")
    _decode(model, basis, 64, replace(SAMPLED, temperature=5.0, top_p=1.0))
    assert len(seen) > 200
    assert min(seen) >= 6


def test_text_is_cut_before_the_first_stop_string(model: LanguageModel, basis: BasisArtifact) -> None:
    whole = _decode(model, basis, 1, SAMPLED)[0].text
    cut = _decode(model, basis, 1, replace(SAMPLED, stop=(whole[9:11], whole[5:7])))[0]
    assert (cut.text, cut.finish_reason) == (whole[: whole.find(whole[5:7])].strip(), "stop")


def test_rewards_of_a_cut_text_are_those_of_the_kept_tokens(model: LanguageModel, basis: BasisArtifact) -> None:
    options = replace(SAMPLED, stop=("e",))
    candidates = _decode(model, basis, 32, options)
    cut = [one for one in candidates if one.tokens == len(_ids(model, one)) + 1 and one.finish_reason == "stop"]
    expected = basis_rewards(LanguageModelTrunk(model), basis, [(CONVERSATION, one.text) for one in cut])
    assert len(cut) >= 1
    np.testing.assert_allclose(np.stack([one.basis_rewards for one in cut]), expected, atol=TOLERANCE)


def test_a_text_that_begins_with_a_stop_string_is_empty_and_scored_as_such(
    model: LanguageModel, basis: BasisArtifact
) -> None:
    whole = _decode(model, basis, 1, SAMPLED)[0].text
    empty = _decode(model, basis, 1, replace(SAMPLED, stop=(whole[0],)))[0]
    expected = basis_rewards(LanguageModelTrunk(model), basis, [(CONVERSATION, "")])[0]
    assert empty.text == ""
    np.testing.assert_allclose(empty.basis_rewards, expected, atol=TOLERANCE)


def test_one_candidates_stop_leaves_the_others_as_they_were(model: LanguageModel, basis: BasisArtifact) -> None:
    whole = _decode(model, basis, 6, SAMPLED)
    cut = _decode(model, basis, 6, replace(SAMPLED, stop=(whole[0].text[2:6],)))
    assert [one.text for one in cut[1:]] == [one.text for one in whole[1:]]


def test_at_temperature_zero_all_candidates_are_the_same(model: LanguageModel, basis: BasisArtifact) -> None:
    candidates = _decode(model, basis, 3, GREEDY)
    assert [one.text for one in candidates] == [candidates[0].text] * 3


def test_a_check_that_raises_ends_the_decoding(model: LanguageModel, basis: BasisArtifact) -> None:
    calls = iter([None, None, InterruptedError()])

    def check() -> None:
        if (error := next(calls)) is not None:
            raise error

    with pytest.raises(InterruptedError):
        decode(model, Heads.on(model, basis), model.tokenizer.prompt_ids(CONVERSATION), 2, SAMPLED, check=check)


def test_a_reward_that_is_not_finite_is_an_error(model: LanguageModel, basis: BasisArtifact) -> None:
    with pytest.raises(NonFiniteReward):
        _decode(model, replace(basis, offset=np.full_like(basis.offset, np.nan)), 1, GREEDY)


def test_heads_for_another_hidden_size_are_refused(model: LanguageModel, basis: BasisArtifact) -> None:
    with pytest.raises(ArtifactIncompatible, match="reads 31 hidden values, the model has 32"):
        Heads.on(model, replace(basis, heads=basis.heads[:, :31]))
