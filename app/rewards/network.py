"""Llama and Qwen2 decoders in plain torch: the forward pass that decoding and scoring share.

The states equal ``last_hidden_state`` of the transformers model that ``weights`` copied from. What rows remember of
earlier tokens, and how they attend to it, is their ``attention.Memory``. Knows no files, no text, no sampling and no
rewards.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from app.rewards.attention import Continued, KeyValues, Memory
from app.rewards.linear import Linear

_PREFILL_TOKENS = 1024


@dataclass(frozen=True)
class NetworkShape:
    """Sizes of a decoder; ``heads`` is a multiple of ``key_heads``, ``context`` counts tokens."""

    layers: int
    hidden: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    context: int
    epsilon: float


@dataclass(frozen=True)
class Layer:
    """Weights of one block; norm scales and the attention temperature are folded into the projections after them."""

    query_key_value: Linear
    attention_out: Linear
    gate_up: Linear
    down: Linear


class LlamaNetwork:
    """A decoder whose forward pass appends to a ``KeyValues`` cache. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        shape: NetworkShape,
        embedding: Tensor,
        layers: list[Layer],
        final_scale: Tensor,
        output: Linear,
        rotation: tuple[Tensor, Tensor],
    ) -> None:
        self.shape = shape
        self.embedding, self.layers, self.final_scale, self.output = embedding, layers, final_scale, output
        self.cosines, self.signed_sines = rotation

    def new_cache(self, rows: int, capacity: int) -> KeyValues:
        """An empty cache for ``rows`` rows of at most ``capacity`` tokens."""
        shape = self.shape
        return KeyValues((shape.layers, shape.key_heads, shape.head_size), rows, capacity, self.embedding)

    def forward(
        self, tokens: Int[Tensor, "rows tokens"], cache: KeyValues, prefix: KeyValues | None = None
    ) -> Float[Tensor, "rows tokens hidden"]:
        """Last hidden states after the final norm, of ``tokens`` that follow what ``cache`` holds.

        Args:
            tokens: Token ids; row b continues row b of the cache. Fewer rows than the cache has use its first ones.
            cache: The rows' own earlier tokens; the new tokens' keys and values are appended to it.
            prefix: Tokens that come before the cache: one row for all rows, or one row each. Not changed.
        """
        return self.read(tokens, Continued(cache, prefix))

    @torch.inference_mode()
    def read(self, tokens: Int[Tensor, "rows tokens"], memory: Memory) -> Float[Tensor, "rows tokens hidden"]:
        """Last hidden states after the final norm, of ``tokens`` that follow what ``memory`` holds, which is extended.

        Source:
            Touvron et al., "LLaMA" (2023), sec. 2.2; grouped queries: Ainslie et al., "GQA" (2023).
        """
        length = tokens.shape[1]
        places = memory.places(length).clamp(max=len(self.cosines) - 1)  # beyond the context there is only padding
        rotation = self.cosines[places][:, :, None], self.signed_sines[places][:, :, None]
        states = self.embedding[tokens]
        for number, layer in enumerate(self.layers):
            states = states + self._attend(layer, number, _norm(states, self.shape.epsilon), rotation, memory)
            states += _feed_forward(layer, _norm(states, self.shape.epsilon))
        memory.advance(length)
        return _norm(states, self.shape.epsilon) * self.final_scale

    @torch.inference_mode()
    def prefill(
        self,
        tokens: Int[Tensor, "rows tokens"],
        lengths: Int[Tensor, " rows"] | None = None,
        *,
        cache: KeyValues | None = None,
    ) -> tuple[KeyValues, Float[Tensor, "rows hidden"]]:
        """Read whole prompts: their cache, to be used as a prefix, and the state (rows, hidden) at their last tokens.

        Args:
            tokens: Token ids, padded on the right with any id.
            lengths: True token counts, at least 1 each; None if nothing is padded.
            cache: What was read before these tokens, with room for them; it is extended. None if there is nothing.
        """
        rows, length = tokens.shape
        cache = self.new_cache(rows, length) if cache is None else cache
        chunks = [self.forward(chunk, cache) for chunk in torch.split(tokens, _PREFILL_TOKENS, dim=1)]
        if lengths is None:
            return cache, chunks[-1][:, -1]
        cache.lengths = lengths
        return cache, torch.cat(chunks, dim=1)[torch.arange(rows, device=tokens.device), lengths - 1]

    @torch.inference_mode()
    def logits(self, states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows vocabulary"]:
        """Unnormalised log-probabilities of the next token, from last hidden states."""
        return self.output(states)

    def _attend(
        self, layer: Layer, number: int, states: Tensor, rotation: tuple[Tensor, Tensor], memory: Memory
    ) -> Tensor:
        rows, length, _ = states.shape
        shape = self.shape
        mixed = layer.query_key_value(states).view(rows, length, -1, shape.head_size)
        turned = _rotate(mixed[:, :, : -shape.key_heads], *rotation)
        keys, values = turned[:, :, shape.heads :].transpose(1, 2), mixed[:, :, -shape.key_heads :].transpose(1, 2)
        query = turned[:, :, : shape.heads].reshape(rows, length, shape.key_heads, -1, shape.head_size)
        seen = memory.attend(number, query.permute(0, 2, 3, 1, 4), keys, values)
        return layer.attention_out(seen.permute(0, 3, 1, 2, 4).reshape(rows, length, -1))


def _norm(states: Tensor, epsilon: float) -> Tensor:
    wide = states.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))).to(states.dtype)


def _rotate(states: Tensor, cosines: Tensor, signed_sines: Tensor) -> Tensor:
    """Turn (B, T, heads, head size) by its positions; Su et al., "RoFormer" (2021), eq. 34."""
    return states * cosines + states.roll(states.shape[-1] // 2, dims=-1) * signed_sines


def _feed_forward(layer: Layer, states: Tensor) -> Tensor:
    gate, up = layer.gate_up(states).chunk(2, dim=-1)
    return layer.down(functional.silu(gate).mul_(up))
