"""What a network remembers of earlier tokens, and attention over it as plain matrix products.

Attention is split in parts: a read-only *prefix* (the prompt, computed once, shared by all rows or one a row) and the
rows' *own* tokens, so that N continuations of one prompt never copy its keys and values. Knows no weights.
"""

from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

PREFIX_MULTIPLE = 16
"""Buffers hold a multiple of so many tokens: what is added to a row's sums beyond its own length is then zero in whole
vectors, and the row is rounded alike beside longer and shorter ones."""


class Memory(Protocol):
    """Keys and values of earlier tokens, as a network's forward pass reads and extends them."""

    def places(self, length: int) -> Int[Tensor, "rows tokens"]:
        """Positions of the next ``length`` tokens of each row; one row if they are the same for all."""

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "rows key_heads groups tokens head"],
        keys: Float[Tensor, "rows key_heads tokens head"],
        values: Float[Tensor, "rows key_heads tokens head"],
    ) -> Float[Tensor, "rows key_heads groups tokens head"]:
        """Append the new tokens' keys and values to ``layer``; returns the mixture of values that each query sees."""

    def advance(self, length: int) -> None:
        """The new tokens are in all layers."""


class KeyValues:
    """Keys and values of B rows in every layer, in buffers of fixed ``capacity`` tokens.

    ``keys`` and ``values`` are (layers, B, key heads, capacity, head size), filled up to ``length`` and zero beyond.
    Rows that were padded on the right have their true token counts in ``lengths`` (B,); None means that all have
    ``length``.
    """

    def __init__(self, size: tuple[int, int, int], rows: int, capacity: int, like: Tensor) -> None:
        """Zeroed buffers for ``size`` = (layers, key heads, head size), in the dtype and on the device of ``like``."""
        layers, key_heads, head_size = size
        rounded = -(-capacity // PREFIX_MULTIPLE) * PREFIX_MULTIPLE
        self.keys = like.new_zeros((layers, rows, key_heads, rounded, head_size))
        self.values = torch.zeros_like(self.keys)
        self.length = 0
        self.lengths: Tensor | None = None

    @property
    def rows(self) -> int:
        """Number of rows B that the buffers hold."""
        return self.keys.shape[1]

    def select(self, rows: Int[Tensor, " selected"]) -> "KeyValues":
        """A copy with the given rows, in that order, repeated as asked."""
        return self._with(
            self.keys[:, :, :, : self.length].index_select(1, rows),
            self.values[:, :, :, : self.length].index_select(1, rows),
            self.length,
            None if self.lengths is None else self.lengths[rows],
        )

    def beginning(self, length: int, capacity: int) -> "KeyValues":
        """A copy of the first ``length`` tokens of every row, with room for ``capacity``."""
        layers, _, key_heads, _, head_size = self.keys.shape
        copy = KeyValues((layers, key_heads, head_size), self.rows, capacity, self.keys)
        copy.keys[:, :, :, :length] = self.keys[:, :, :, :length]
        copy.values[:, :, :, :length] = self.values[:, :, :, :length]
        copy.length = length
        return copy

    def padding(self) -> Tensor | None:
        """Mask (B, 1, 1, 1, length) to add to scores: minus infinity where a row is padding; None without any."""
        return None if self.lengths is None else beyond(self.lengths, self.length, self.keys)

    @classmethod
    def _with(cls, keys: Tensor, values: Tensor, length: int, lengths: Tensor | None) -> "KeyValues":
        made = object.__new__(cls)
        made.keys, made.values, made.length, made.lengths = keys, values, length, lengths
        return made


class Continued:
    """The memory of rows that continue ``cache``, after ``prefix`` if there is one. The prefix is not changed."""

    def __init__(self, cache: KeyValues, prefix: KeyValues | None) -> None:
        self.cache, self.prefix = cache, prefix
        self._padding = None if prefix is None else prefix.padding()

    def places(self, length: int) -> Int[Tensor, "rows tokens"]:
        """As ``Memory.places``."""
        start, prefix = self.cache.length, self.prefix
        steps = torch.arange(start, start + length, device=self.cache.keys.device)
        if prefix is None:
            return steps[None]
        return steps[None] + (prefix.length if prefix.lengths is None else prefix.lengths[:, None])

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As ``Memory.attend``."""
        cache, prefix = self.cache, self.prefix
        rows, length = len(query), query.shape[3]
        end = cache.length + length
        cache.keys[layer, :rows, :, cache.length : end] = keys
        cache.values[layer, :rows, :, cache.length : end] = values
        own_keys, own_values = cache.keys[layer, :rows, :, :end], cache.values[layer, :rows, :, :end]
        own = masked(scores(query, own_keys), _causal(length, cache.length, query))
        if prefix is None:
            return mixture(torch.softmax(own, dim=-1), own_values)
        before, early = prefix.keys[layer, :, :, : prefix.length], prefix.values[layer, :, :, : prefix.length]
        both = torch.cat([masked(scores(query, before), self._padding), own], dim=-1)
        weights = torch.softmax(both, dim=-1)
        return mixture(weights[..., : prefix.length], early) + mixture(weights[..., prefix.length :], own_values)

    def advance(self, length: int) -> None:
        """As ``Memory.advance``."""
        self.cache.length += length


def beyond(lengths: Int[Tensor, " rows"], size: int, like: Tensor) -> Float[Tensor, "rows 1 1 1 size"]:
    """Mask to add to scores: minus infinity at and after each row's length, zero before."""
    outside = torch.arange(size, device=like.device) >= lengths[:, None]
    return torch.zeros_like(outside, dtype=like.dtype).masked_fill_(outside, -torch.inf)[:, None, None, None]


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """The scores with the mask added, if there is one."""
    return scores if mask is None else scores + mask


def scores(query: Tensor, keys: Tensor) -> Tensor:
    """Scores (B, key heads, groups, T, S) of queries (B, key heads, groups, T, D) against keys (B or 1, …, S, D)."""
    return _grouped(query, keys.transpose(-1, -2))


def mixture(weights: Tensor, values: Tensor) -> Tensor:
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


def _causal(length: int, past: int, like: Tensor) -> Tensor | None:
    """Mask (T, past + T) to add to scores; None for a single token, which sees all that came before."""
    if length == 1:
        return None
    return torch.full((length, past + length), -torch.inf, dtype=like.dtype, device=like.device).triu_(past + 1)
