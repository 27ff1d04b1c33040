import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from app.training.language.network import Network, NetworkShape, to_llama_config, to_llama_state

SHAPE = NetworkShape(vocabulary=97, hidden=128, layers=2, heads=2, key_heads=1, feed_forward=96, context=64)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Network(SHAPE).eval()


@torch.no_grad()
def test_the_exported_checkpoint_computes_the_same_function(network):
    reference = LlamaForCausalLM(LlamaConfig(**to_llama_config(SHAPE))).eval()
    state = {name: tensor.float() for name, tensor in to_llama_state(network).items()}
    reference.load_state_dict(state)
    rounded = Network(SHAPE).eval()
    rounded.load_state_dict({name: tensor.to(torch.bfloat16).float() for name, tensor in network.state_dict().items()})
    tokens = torch.randint(6, 97, (2, 20))
    logits = rounded.output(rounded(tokens, torch.ones_like(tokens)))
    torch.testing.assert_close(logits, reference(tokens).logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_documents_of_one_row_do_not_see_each_other(network):
    tokens = torch.randint(6, 97, (1, 24))
    segments = torch.tensor([[1] * 10 + [2] * 14])
    alone = network(tokens[:, :10], segments[:, :10])
    together = network(tokens, segments)
    torch.testing.assert_close(together[:, :10], alone, atol=1e-5, rtol=1e-4)
    changed = tokens.clone()
    changed[0, :10] = 7
    torch.testing.assert_close(network(changed, segments)[:, 10:], together[:, 10:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_chunked_loss_is_the_mean_cross_entropy(network):
    tokens = torch.randint(6, 97, (3, 21))
    segments = torch.ones_like(tokens)
    loss, states = network.losses(tokens, segments)
    expected = torch.nn.functional.cross_entropy(network.output(states).flatten(0, 1), tokens[:, 1:].flatten())
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(network.token_loss(states, tokens, segments, chunk=7)) == pytest.approx(float(expected), rel=1e-5)


@torch.no_grad()
def test_the_first_token_of_a_document_is_not_predicted_from_the_one_before(network):
    tokens = torch.randint(6, 97, (1, 13))
    segments = torch.tensor([[1] * 6 + [2] * 7])
    loss, states = network.losses(tokens, segments)
    kept = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    expected = torch.nn.functional.cross_entropy(network.output(states)[0, kept], tokens[0, 1:][kept])
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


def test_the_checkpoint_is_written_in_half_precision(network, tmp_path):
    state = to_llama_state(network)
    save_file(state, tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in state.values()) == sum(p.numel() for p in network.parameters())


def test_losses_fall_with_training(network):
    torch.manual_seed(1)
    small = Network(SHAPE)
    optimizer = torch.optim.AdamW(small.parameters(), lr=3e-3)
    tokens = torch.from_numpy(np.tile(np.arange(10, 30), (4, 1)))
    first = None
    for _ in range(30):
        loss, _ = small.losses(tokens, torch.ones_like(tokens))
        first = first if first is not None else float(loss.detach())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss.detach()) < 0.5 * first
