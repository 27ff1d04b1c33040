"""The bundled model's network in training form: a Llama decoder with fused projections.

Computes the same function as transformers' ``LlamaForCausalLM``; ``to_llama_state`` writes its
weights under that class's names. Knows nothing of data, optimisers or files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of the decoder; ``heads * head_size == hidden``."""

    vocabulary: int = 6144
    hidden: int = 320
    layers: int = 5
    heads: int = 5
    key_heads: int = 1
    feed_forward: int = 832
    context: int = 512
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5

    @property
    def head_size(self) -> int:
        """Dimensions of one attention head."""
        return self.hidden // self.heads


class Block(nn.Module):
    """Pre-norm attention and SwiGLU feed-forward, each added to the residual stream."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        hidden, head = shape.hidden, shape.head_size
        self.attention_norm = nn.Parameter(torch.ones(hidden))
        self.feed_norm = nn.Parameter(torch.ones(hidden))
        self.query_key_value = nn.Linear(hidden, (shape.heads + 2 * shape.key_heads) * head, bias=False)
        self.attention_out = nn.Linear(hidden, hidden, bias=False)
        self.gate_up = nn.Linear(hidden, 2 * shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, hidden, bias=False)

    def forward(self, states: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        """(B, T, hidden) → (B, T, hidden); ``mask`` (B, 1, T, T) is added to the attention scores."""
        states = states + self._attend(
            _norm(states, self.attention_norm, self.shape.norm_epsilon), cosines, sines, mask
        )
        gate, up = self.gate_up(_norm(states, self.feed_norm, self.shape.norm_epsilon)).chunk(2, dim=-1)
        fed: Tensor = self.down(functional.silu(gate) * up)
        return states + fed

    def _attend(self, states: Tensor, cosines: Tensor, sines: Tensor, mask: Tensor) -> Tensor:
        batch, length, _ = states.shape
        shape, head = self.shape, self.shape.head_size
        mixed = self.query_key_value(states).view(batch, length, -1, head).transpose(1, 2)
        query, key, value = mixed.split([shape.heads, shape.key_heads, shape.key_heads], dim=1)
        query, key = _rotate(query, cosines, sines), _rotate(key, cosines, sines)
        groups = shape.heads // shape.key_heads
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ key.transpose(2, 3) * head**-0.5
        weights = torch.softmax(scores.float() + mask, dim=-1).to(value.dtype)
        mixed_out: Tensor = self.attention_out((weights @ value).transpose(1, 2).reshape(batch, length, -1))
        return mixed_out


class Network(nn.Module):
    """Token embedding, ``layers`` blocks, final norm and an untied output matrix."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = [Block(shape) for _ in range(shape.layers)]
        self.blocks = nn.ModuleList(self.layers)
        self.final_norm = nn.Parameter(torch.ones(shape.hidden))
        self.output = nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        angles = torch.outer(
            torch.arange(shape.context).float(),
            shape.rope_theta ** (-torch.arange(0, shape.head_size, 2).float() / shape.head_size),
        )
        angles = torch.cat([angles, angles], dim=-1)
        self.cosines: Tensor
        self.sines: Tensor
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                scale = 0.02 if "embedding" in name else parameter.shape[1] ** -0.5
                if name.endswith(("attention_out.weight", "down.weight")):
                    scale /= (2 * self.shape.layers) ** 0.5
                nn.init.normal_(parameter, std=scale)
        nn.init.normal_(self.output.weight, std=0.01)

    def forward(self, tokens: Tensor, segments: Tensor) -> Tensor:
        """Last hidden states (B, T, hidden), normed, of ``tokens`` (B, T) within their ``segments`` (B, T)."""
        length = tokens.shape[1]
        same = segments[:, :, None] == segments[:, None, :]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        mask = torch.where(same & causal, 0.0, float("-inf"))[:, None]
        states = self.embedding(tokens)
        for block in self.layers:
            states = block(states, self.cosines[:length], self.sines[:length], mask)
        return _norm(states, self.final_norm, self.shape.norm_epsilon)

    def token_loss(self, states: Tensor, tokens: Tensor, segments: Tensor, chunk: int = 1024) -> Tensor:
        """Mean cross-entropy in nats of each token given those before it in its document.

        ``tokens`` and ``segments`` are (B, T+1), ``states`` (B, T, hidden) those of the first T. The
        output matrix is applied to ``chunk`` positions at a time: the logits stay in the cache.
        """
        flat = states.flatten(0, 1)
        inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
        targets = torch.where(inside, tokens[:, 1:], -100).flatten()
        total = torch.zeros((), device=states.device)
        for start in range(0, len(targets), chunk):
            logits = self.output(flat[start : start + chunk]).float()
            total = total + functional.cross_entropy(logits, targets[start : start + chunk], reduction="sum")
        return total / inside.sum()

    def losses(self, tokens: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """Token loss of (B, T+1) rows, and the hidden states (B, T, hidden) it was computed from."""
        states = self(tokens[:, :-1], segments[:, :-1])
        return self.token_loss(states, tokens, segments), states


def _norm(states: Tensor, scale: Tensor, epsilon: float) -> Tensor:
    wide = states.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon) * scale).to(states.dtype)


def _rotate(states: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = states.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (states.float() * cosines + turned.float() * sines).to(states.dtype)


def to_llama_state(network: Network) -> dict[str, Tensor]:
    """The weights in bf16 under the names that ``LlamaForCausalLM`` expects."""
    shape, head = network.shape, network.shape.head_size
    state: dict[str, Tensor] = {
        "model.embed_tokens.weight": network.embedding.weight,
        "model.norm.weight": network.final_norm,
        "lm_head.weight": network.output.weight,
    }
    sizes = [shape.heads * head, shape.key_heads * head, shape.key_heads * head]
    for number, block in enumerate(network.layers):
        prefix = f"model.layers.{number}."
        query, key, value = torch.split(block.query_key_value.weight, sizes)
        gate, up = block.gate_up.weight.chunk(2)
        state |= {
            prefix + "input_layernorm.weight": block.attention_norm,
            prefix + "post_attention_layernorm.weight": block.feed_norm,
            prefix + "self_attn.q_proj.weight": query,
            prefix + "self_attn.k_proj.weight": key,
            prefix + "self_attn.v_proj.weight": value,
            prefix + "self_attn.o_proj.weight": block.attention_out.weight,
            prefix + "mlp.gate_proj.weight": gate,
            prefix + "mlp.up_proj.weight": up,
            prefix + "mlp.down_proj.weight": block.down.weight,
        }
    return {name: tensor.detach().to(torch.bfloat16).contiguous().clone() for name, tensor in state.items()}


def to_llama_config(shape: NetworkShape) -> dict[str, object]:
    """``config.json`` of the checkpoint."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "head_dim": shape.head_size,
        "max_position_embeddings": shape.context,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_epsilon,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "torch_dtype": "bfloat16",
    }
