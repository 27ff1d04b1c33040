"""Llama and Qwen2 decoders in plain torch: the forward pass that decoding and scoring share.

The states equal ``last_hidden_state`` of the transformers model that ``weights`` copied from. Attention is written as
matrix products and split in two parts, a read-only *prefix* (the prompt, computed once, shared by all rows or one a
row) and the rows' *own* tokens, so that N continuations of one prompt never copy its keys and values. Knows no files,
no text, no sampling and no rewards.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

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


class KeyValues:
    """Keys and values of B rows in every layer, in buffers of fixed ``capacity`` tokens.

    ``keys`` and ``values`` are (layers, B, key heads, capacity, head size), filled up to ``length``. Rows that were
    padded on the right have their true token counts in ``lengths`` (B,); None means that all have ``length``.
    """

    def __init__(self, shape: NetworkShape, rows: int, capacity: int, like: Tensor) -> None:
        size = (shape.layers, rows, shape.key_heads, capacity, shape.head_size)
        self.keys, self.values = like.new_empty(size), like.new_empty(size)
        self.length = 0
        self.lengths: Tensor | None = None

    @property
    def rows(self) -> int:
        """Number of rows B that the buffers hold."""
        return self.keys.shape[1]

    def move_row(self, source: int, target: int) -> None:
        """Overwrite row ``target`` by row ``source``."""
        for buffer in (self.keys, self.values):
            buffer[:, target, :, : self.length] = buffer[:, source, :, : self.length]

    def select(self, rows: Int[Tensor, " selected"]) -> "KeyValues":
        """A copy with the given rows, in that order, repeated as asked."""
        chosen = object.__new__(KeyValues)
        chosen.keys = self.keys[:, :, :, : self.length].index_select(1, rows)
        chosen.values = self.values[:, :, :, : self.length].index_select(1, rows)
        chosen.length = self.length
        chosen.lengths = None if self.lengths is None else self.lengths[rows]
        return chosen

    def padding(self) -> Tensor | None:
        """Mask (B, 1, 1, 1, length) to add to scores: minus infinity where a row is padding; None without any."""
        if self.lengths is None:
            return None
        beyond = torch.arange(self.length, device=self.keys.device) >= self.lengths[:, None]
        return torch.zeros_like(beyond, dtype=self.keys.dtype).masked_fill_(beyond, -torch.inf)[:, None, None, None]


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
        return KeyValues(self.shape, rows, capacity, self.embedding)

    @torch.inference_mode()
    def forward(
        self, tokens: Int[Tensor, "rows tokens"], cache: KeyValues, prefix: KeyValues | None = None
    ) -> Float[Tensor, "rows tokens hidden"]:
        """Last hidden states after the final norm, of ``tokens`` that follow what ``cache`` holds.

        Args:
            tokens: Token ids; row b continues row b of the cache. Fewer rows than the cache has use its first ones.
            cache: The rows' own earlier tokens; the new tokens' keys and values are appended to it.
            prefix: Tokens that come before the cache: one row for all rows, or one row each. Not changed.

        Source:
            Touvron et al., "LLaMA" (2023), sec. 2.2; grouped queries: Ainslie et al., "GQA" (2023).
        """
        length = tokens.shape[1]
        rotation = self._positions(length, cache, prefix)
        masks = (None if prefix is None else prefix.padding(), _causal(length, cache.length, self.embedding))
        states = self.embedding[tokens]
        for number, layer in enumerate(self.layers):
            normed = _norm(states, self.shape.epsilon)
            states = states + self._attend(layer, number, normed, rotation, cache, prefix, masks)
            states += _feed_forward(layer, _norm(states, self.shape.epsilon))
        cache.length += length
        return _norm(states, self.shape.epsilon) * self.final_scale

    @torch.inference_mode()
    def prefill(
        self, tokens: Int[Tensor, "rows tokens"], lengths: Int[Tensor, " rows"] | None = None
    ) -> tuple[KeyValues, Float[Tensor, "rows hidden"]]:
        """Read whole prompts: their cache, to be used as a prefix, and the state (rows, hidden) at their last tokens.

        Args:
            tokens: Token ids, padded on the right with any id.
            lengths: True token counts, at least 1 each; None if nothing is padded.
        """
        rows, length = tokens.shape
        cache = self.new_cache(rows, length)
        chunks = [self.forward(chunk, cache) for chunk in torch.split(tokens, _PREFILL_TOKENS, dim=1)]
        if lengths is None:
            return cache, chunks[-1][:, -1]
        cache.lengths = lengths
        return cache, torch.cat(chunks, dim=1)[torch.arange(rows, device=tokens.device), lengths - 1]

    @torch.inference_mode()
    def logits(self, states: Float[Tensor, "*rows hidden"]) -> Float[Tensor, "*rows vocabulary"]:
        """Unnormalised log-probabilities of the next token, from last hidden states."""
        return self.output(states)

    def _positions(self, length: int, cache: KeyValues, prefix: KeyValues | None) -> tuple[Tensor, Tensor]:
        """Cosines and sines (rows or 1, T, 1, head size) at the positions of the new tokens."""
        start = cache.length + (prefix.length if prefix is not None and prefix.lengths is None else 0)
        if prefix is None or prefix.lengths is None:
            here = slice(start, start + length)
            return self.cosines[None, here, None], self.signed_sines[None, here, None]
        where = prefix.lengths[:, None] + torch.arange(start, start + length, device=self.cosines.device)
        where = where.clamp(max=len(self.cosines) - 1)  # beyond the context there is only padding
        return self.cosines[where][:, :, None], self.signed_sines[where][:, :, None]

    def _attend(
        self,
        layer: Layer,
        number: int,
        states: Tensor,
        rotation: tuple[Tensor, Tensor],
        cache: KeyValues,
        prefix: KeyValues | None,
        masks: tuple[Tensor | None, Tensor | None],
    ) -> Tensor:
        rows, length, _ = states.shape
        shape, end = self.shape, cache.length + states.shape[1]
        mixed = layer.query_key_value(states).view(rows, length, -1, shape.head_size)
        turned = _rotate(mixed[:, :, : -shape.key_heads], *rotation)
        cache.keys[number, :rows, :, cache.length : end] = turned[:, :, shape.heads :].transpose(1, 2)
        cache.values[number, :rows, :, cache.length : end] = mixed[:, :, -shape.key_heads :].transpose(1, 2)
        query = turned[:, :, : shape.heads].reshape(rows, length, shape.key_heads, -1, shape.head_size)
        query = query.permute(0, 2, 3, 1, 4)
        keys, values = cache.keys[number, :rows, :, :end], cache.values[number, :rows, :, :end]
        scores = _masked(_scores(query, keys), masks[1])
        if prefix is None:
            mixture = _mixture(torch.softmax(scores, dim=-1), values)
        else:
            before, early = prefix.keys[number, :, :, : prefix.length], prefix.values[number, :, :, : prefix.length]
            scores = torch.cat([_masked(_scores(query, before), masks[0]), scores], dim=-1)
            weights = torch.softmax(scores, dim=-1)
            mixture = _mixture(weights[..., : prefix.length], early) + _mixture(weights[..., prefix.length :], values)
        gathered = mixture.permute(0, 3, 1, 2, 4).reshape(rows, length, -1)
        return layer.attention_out(gathered)


def _norm(states: Tensor, epsilon: float) -> Tensor:
    wide = states.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True).add_(epsilon))).to(states.dtype)


def _rotate(states: Tensor, cosines: Tensor, signed_sines: Tensor) -> Tensor:
    """Turn (B, T, heads, head size) by its positions; Su et al., "RoFormer" (2021), eq. 34."""
    return states * cosines + states.roll(states.shape[-1] // 2, dims=-1) * signed_sines


def _feed_forward(layer: Layer, states: Tensor) -> Tensor:
    gate, up = layer.gate_up(states).chunk(2, dim=-1)
    return layer.down(functional.silu(gate).mul_(up))


def _causal(length: int, past: int, like: Tensor) -> Tensor | None:
    """Mask (T, past + T) to add to scores; None for a single token, which sees all that came before."""
    if length == 1:
        return None
    return torch.full((length, past + length), -torch.inf, dtype=like.dtype, device=like.device).triu_(past + 1)


def _masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    return scores if mask is None else scores + mask


def _scores(query: Tensor, keys: Tensor) -> Tensor:
    """Scores (B, key heads, groups, T, S) of queries (B, key heads, groups, T, D) against keys (B or 1, …, S, D)."""
    return _grouped(query, keys.transpose(-1, -2))


def _mixture(weights: Tensor, values: Tensor) -> Tensor:
    """Values (B or 1, key heads, S, D) averaged by weights (B, key heads, groups, T, S)."""
    return _grouped(weights, values)


def _grouped(left: Tensor, right: Tensor) -> Tensor:
    """Matrix product of (B, heads, groups, T, X) with (B or 1, heads, X, Y); one right row serves all B at once."""
    rows, heads, groups, length, _ = left.shape
    size = right.shape[-1]
    if len(right) == rows:
        return (left.flatten(2, 3) @ right).view(rows, heads, groups, length, size)
    merged = left.transpose(0, 1).flatten(1, 3) @ right[0]
    return merged.view(heads, rows, groups, length, size).transpose(0, 1)
