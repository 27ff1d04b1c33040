from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, Qwen2Config

from app.errors import ArtifactIncompatible
from app.rewards import network as network_module
from app.rewards.language import LanguageModel
from app.rewards.weights import check_architecture

TOLERANCE = 1e-4  # fp32 rounding through three layers, on states of size 1 to 5


def _tokens(rows: int, length: int) -> torch.Tensor:
    return torch.randint(6, 262, (rows, length), generator=torch.Generator().manual_seed(rows * 1000 + length))


def _states(reference: Any, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return reference.model(tokens).last_hidden_state


def test_states_of_a_whole_text_equal_those_of_transformers(model: LanguageModel, reference: Any) -> None:
    tokens = _tokens(3, 40)
    states = model.network.forward(tokens, model.network.new_cache(3, 40))
    torch.testing.assert_close(states, _states(reference, tokens), atol=TOLERANCE, rtol=0)


def test_log_probabilities_equal_those_of_transformers(model: LanguageModel, reference: Any) -> None:
    tokens = _tokens(2, 25)
    logits = model.network.logits(model.network.forward(tokens, model.network.new_cache(2, 25)))
    with torch.no_grad():
        expected = reference(tokens).logits
    torch.testing.assert_close(logits.log_softmax(-1), expected.log_softmax(-1), atol=TOLERANCE, rtol=0)


def test_reading_token_by_token_gives_the_same_states(model: LanguageModel) -> None:
    tokens, network = _tokens(2, 12), model.network
    whole = network.forward(tokens, network.new_cache(2, 12))
    cache = network.new_cache(2, 12)
    steps = [network.forward(tokens[:, place, None], cache) for place in range(12)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=TOLERANCE, rtol=0)


def test_rows_that_share_a_prefix_get_the_states_of_the_joined_texts(model: LanguageModel, reference: Any) -> None:
    prompt, responses, network = _tokens(1, 9), _tokens(5, 7), model.network
    prefix, _ = network.prefill(prompt)
    states = network.forward(responses, network.new_cache(5, 7), prefix)
    expected = _states(reference, torch.cat([prompt.expand(5, -1), responses], dim=1))[:, 9:]
    torch.testing.assert_close(states, expected, atol=TOLERANCE, rtol=0)


def test_prefixes_of_different_lengths_get_the_states_of_the_joined_texts(model: LanguageModel, reference: Any) -> None:
    prompts, responses, network = _tokens(2, 9), _tokens(3, 7), model.network
    prefix, _ = network.prefill(prompts, torch.tensor([9, 4]))
    states = network.forward(responses, network.new_cache(3, 7), prefix.select(torch.tensor([1, 0, 1])))
    for row, (owner, length) in enumerate([(1, 4), (0, 9), (1, 4)]):
        joined = torch.cat([prompts[owner, :length], responses[row]])[None]
        torch.testing.assert_close(states[row], _states(reference, joined)[0, length:], atol=TOLERANCE, rtol=0)


def test_a_padded_prompt_ends_with_the_state_of_its_last_true_token(model: LanguageModel, reference: Any) -> None:
    prompts = _tokens(2, 9)
    _, states = model.network.prefill(prompts, torch.tensor([9, 4]))
    torch.testing.assert_close(states[1], _states(reference, prompts[1:, :4])[0, -1], atol=TOLERANCE, rtol=0)


def test_a_prompt_read_in_chunks_ends_with_the_same_state(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = _tokens(1, 50)
    _, whole = model.network.prefill(prompt)
    monkeypatch.setattr(network_module, "_PREFILL_TOKENS", 16)
    _, chunked = model.network.prefill(prompt)
    torch.testing.assert_close(chunked, whole, atol=TOLERANCE, rtol=0)


def test_a_prompt_read_on_from_a_copy_of_its_beginning_ends_with_the_same_state(model: LanguageModel) -> None:
    prompt, network = _tokens(1, 40), model.network
    cache, whole = network.prefill(prompt)
    longer, _ = network.prefill(_tokens(1, 40))
    _, resumed = network.prefill(prompt[:, 25:], cache=longer.beginning(25, 40))
    torch.testing.assert_close(resumed, whole, atol=TOLERANCE, rtol=0)
    assert cache.length == 40


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (GPT2Config(), "architecture 'gpt2'"),
        (LlamaConfig(hidden_act="gelu"), "activation 'gelu'"),
        (Qwen2Config(use_sliding_window=True), "sliding-window"),
        (
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            "rotary embedding 'dynamic'",
        ),
    ],
)
def test_a_model_that_computes_something_else_is_refused_by_name(config: Any, named: str) -> None:
    with pytest.raises(ArtifactIncompatible, match=named):
        check_architecture(config)


def test_a_scaled_rotary_embedding_is_computed_as_transformers_does(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    from app.rewards.weights import copy_network

    rope = {
        "rope_type": "llama3",
        "rope_theta": 1e4,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    config = LlamaConfig(
        vocab_size=262, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, rope_parameters=rope,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        reference = LlamaForCausalLM(config).eval()
    tokens, network = _tokens(1, 100), copy_network(reference)
    states = network.forward(tokens, network.new_cache(1, 100))
    torch.testing.assert_close(states, _states(reference, tokens), atol=TOLERANCE, rtol=0)
