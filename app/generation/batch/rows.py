"""The tensors of the running batch: one row a text under way, of any number of requests.

A row's own keys and values lie left-aligned in one buffer for all rows; its prompt is read where it was put once. Rows
of one prompt lie together, so that many of them attend to the same copy in one product, and prompts with a row or two
are padded into one block, a copy each, so that many small requests cost one product as well. Every sum over a row runs
in the same order whatever lies beside it. Knows tensors, not requests, text or sampling.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from app.rewards.attention import PREFIX_MULTIPLE, KeyValues, beyond, masked, mixture, scores
from app.rewards.linear import Linear
from app.rewards.network import LlamaNetwork

ROW_MULTIPLE = 4
"""Rows of a forward pass are padded to a multiple of this: matrix products then round every row alike, however many
rows there are, so that a candidate does not depend on how many others are drawn (measured on x86-64, fp32)."""

_SHARED_ROWS = 3
_LEAST_KEYS = 4
"""Products with fewer keys are computed by other kernels, which round otherwise; the first steps look at empty ones."""
_ALLOCATED_TOKENS = 32
_KEPT_PLACES = 32_768
"""Buffers for more tokens than this, of all rows together, are given back as soon as no row is left."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt that was read: ``memory`` of one row, and the ``state`` (1, hidden) at its last token."""

    ids: tuple[int, ...]
    memory: KeyValues
    state: Tensor


@dataclass(frozen=True)
class _Segment:
    """Rows ``start`` to ``stop`` and their prompts: one for all, or one each, padded; ``mask`` hides the padding."""

    start: int
    stop: int
    keys: Tensor
    values: Tensor
    mask: Tensor

    @property
    def length(self) -> int:
        return self.keys.shape[3]


class RunningRows:
    """``count`` live rows, then padding up to a multiple of ``ROW_MULTIPLE``. Implements ``attention.Memory``.

    ``states`` (padded, hidden) are the last ones of each row, ``sums`` (rows, hidden) their sums over its own tokens,
    ``rewards`` (rows, tokens, K) the basis rewards of each, and ``uniforms`` (rows, tokens, 2) what it is drawn by.
    """

    def __init__(self, network: LlamaNetwork, heads: Float[Tensor, "basis hidden"], most: int = 0) -> None:
        """No rows yet; buffers grow ahead of need up to ``most`` rows."""
        self.network, self._basis, self._most = network, len(heads), most
        self._heads = Linear(heads) if len(heads) else None
        self.prompts: list[Prompt] = []
        self.lengths: list[int] = []
        self.states = network.embedding.new_zeros(0, network.shape.hidden)
        self._segments: list[_Segment] = []
        self._own_mask: Tensor | None = None
        self._next: Tensor | None = None
        self._size = _LEAST_KEYS
        self._level: int | None = None
        self._lengths = self._positions = self._growth = self._index([])
        self._used = 0
        self._allocate(ROW_MULTIPLE, _ALLOCATED_TOKENS)

    @property
    def count(self) -> int:
        """Live rows."""
        return len(self.prompts)

    @property
    def padded(self) -> int:
        """Rows of a forward pass."""
        return -(-self.count // ROW_MULTIPLE) * ROW_MULTIPLE

    def join(self, prompt: Prompt, uniforms: list[Tensor]) -> None:
        """Append a row for each stream of uniforms (tokens, 2), at the end of ``prompt``; ``arrange`` has to follow."""
        first, new = self.count, len(uniforms)
        self._reserve(first + new, max(len(one) for one in uniforms))
        rows = slice(first, first + new)
        for buffer in (self._keys, self._values):
            buffer[:, rows, :, : self._used] = 0  # what another row left, which may not even be finite
        self.sums[rows] = 0
        for row, stream in enumerate(uniforms, first):
            self.uniforms[row, : len(stream)] = stream
        self.states = torch.cat([self.states[:first], prompt.state.expand(new, -1)])
        self.prompts += [prompt] * new
        self.lengths += [0] * new

    @torch.inference_mode()
    def arrange(self, order: list[int]) -> None:
        """Let row r continue as what row ``order[r]`` was, for as many rows as there are in ``order``; may repeat.

        Rows of one prompt must lie together; ``placement`` gives such an order.
        """
        before = self.count
        self._reserve(len(order), self.uniforms.shape[1])
        moved = [row for row, source in enumerate(order) if row != source]
        if moved:
            self._move(moved, [order[row] for row in moved])
        self.prompts = [self.prompts[source] for source in order]
        self.lengths = [self.lengths[source] for source in order]
        if moved or len(order) != before or len(self.states) != self.padded:
            spare = [order[0]] * (self.padded - len(order)) if order else []
            self.states = self.states[self._index(order + spare)]
        if not order and self.uniforms.shape[0] * self.uniforms.shape[1] > _KEPT_PLACES:
            self._allocate(ROW_MULTIPLE, _ALLOCATED_TOKENS)
        self._lay_out()

    @torch.inference_mode()
    def feed(self, tokens: Int[Tensor, " padded"]) -> None:
        """Append one token to every row: compute its state, and read its basis rewards."""
        rows, places = self.padded, self._own_places()
        self.states = self.network.read(tokens[:, None], self)[:, 0]
        wide = self.states.float()
        self.sums[:rows] += wide
        if self._heads is not None:
            self.rewards[places] = self._heads(wide)

    def drawn_by(self) -> Tensor:
        """The uniforms (padded, 2) of every row's next token."""
        return self.uniforms[self._own_places()]

    def read(self, states: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows basis"]:
        """Basis rewards of states, without the offset."""
        wide = states.float()
        return wide.new_zeros(len(wide), 0) if self._heads is None else self._heads(wide)

    def means(self, rows: list[int]) -> Float[Tensor, "rows hidden"]:
        """Mean states of rows over their own tokens, of which each has one at least."""
        counts = self._index([self.lengths[row] for row in rows])
        return self.sums[self._index(rows)] / counts[:, None]

    def places(self, length: int) -> Int[Tensor, "rows tokens"]:
        """As ``Memory.places``."""
        if length != 1:
            raise ValueError(f"The running batch takes one token a row at a time, not {length}.")
        longest = max(self.lengths) + 1
        self._size = max(longest, _LEAST_KEYS)
        is_filled = self._level is not None and longest == self._size
        self._own_mask = None if is_filled else beyond(self._lengths + 1, self._size, self._keys)
        self._next = None if self._level is not None else self._flat_places()
        return self._positions[:, None]

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As ``Memory.attend``, for one token a row."""
        own_keys, own_values = self._append(layer, keys, values)
        widest = max(segment.length for segment in self._segments)
        parts = [_segment_scores(segment, layer, query, widest) for segment in self._segments]
        parts = parts if len(parts) == 1 else [torch.cat(parts)]
        weights = torch.softmax(torch.cat([*parts, masked(scores(query, own_keys), self._own_mask)], dim=-1), dim=-1)
        seen = [_segment_mixture(segment, layer, weights) for segment in self._segments]
        return mixture(weights[..., widest:], own_values) + (seen[0] if len(seen) == 1 else torch.cat(seen))

    def advance(self, length: int) -> None:
        """As ``Memory.advance``."""
        self.lengths = [one + length for one in self.lengths]
        self._lengths = self._lengths + self._growth
        self._positions = self._positions + self._growth
        self._level = None if self._level is None else self._level + length
        self._used = max(self._used, *self.lengths)

    def _append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens; returns all own keys and values of the layer, as far as the longest row goes."""
        rows, size = self.padded, self._size
        for buffer, new in ((self._keys, keys), (self._values, values)):
            if self._next is None:
                buffer[layer, :rows, :, self._level] = new[:, :, 0]
            else:
                head_size = buffer.shape[-1]
                buffer[layer].view(-1, head_size).index_copy_(0, self._next, new.reshape(-1, head_size))
        return self._keys[layer, :rows, :, :size], self._values[layer, :rows, :, :size]

    def _own_places(self) -> tuple[slice | Tensor, int | Tensor]:
        """Where the next token of every row belongs in buffers (rows, tokens, …)."""
        if self._level is not None:
            return slice(0, self.padded), self._level
        return torch.arange(self.padded, device=self._lengths.device), self._lengths

    def _flat_places(self) -> Tensor:
        """The next token of every row and key head in a layer's buffer, counted in vectors."""
        _, _, key_heads, capacity, _ = self._keys.shape
        heads = torch.arange(self.padded * key_heads, device=self._lengths.device)
        return heads * capacity + self._lengths.repeat_interleave(key_heads)

    def _lay_out(self) -> None:
        """Cut the rows into segments by their prompts, and note where each row stands."""
        spare = [0] * (self.padded - self.count)
        self._lengths = self._index(self.lengths + spare)
        self._growth = self._index([1] * self.count + spare)
        self._positions = self._lengths + self._index([one.memory.length for one in self.prompts] + spare)
        self._level = self.lengths[0] if len(set(self.lengths)) == 1 else None
        shared, merged = _grouped(self.prompts)
        self._segments = [_shared(self.prompts[group.start], group.start, group.stop) for group in shared]
        if merged is not None:
            self._segments.append(_merged(self.prompts[merged.start :], merged.start, self.padded))
        elif self._segments:
            last = self._segments[-1]
            self._segments[-1] = _Segment(last.start, self.padded, last.keys, last.values, last.mask)

    def _move(self, targets: list[int], sources: list[int]) -> None:
        """Copy rows with all that was ever written to them, so that nothing of what they replace is left."""
        to, of = self._index(targets), self._index(sources)
        for buffer in (self._keys, self._values):
            buffer[:, to, :, : self._used] = buffer[:, of, :, : self._used]
        for rows in (self.sums, self.rewards, self.uniforms):
            rows[to] = rows[of]

    def _reserve(self, rows: int, tokens: int) -> None:
        """Make room, keeping what is there."""
        have_rows, have_tokens = self.uniforms.shape[:2]
        if rows <= have_rows and tokens <= have_tokens:
            return
        old = (self._keys, self._values, self.sums, self.rewards, self.uniforms)
        used, count = self._used, self.count
        ahead = max(rows, min(2 * rows, self._most))
        self._allocate(ahead if rows > have_rows else have_rows, max(tokens, have_tokens))
        self._used = used
        for new, kept in zip((self._keys, self._values), old[:2], strict=True):
            new[:, :count, :, :used] = kept[:, :count, :, :used]
        self.sums[:count] = old[2][:count]
        for new, kept in zip((self.rewards, self.uniforms), old[3:], strict=True):
            new[:count, :have_tokens] = kept[:count]

    def _allocate(self, rows: int, tokens: int) -> None:
        rows = -(-rows // ROW_MULTIPLE) * ROW_MULTIPLE
        tokens = -(-tokens // _ALLOCATED_TOKENS) * _ALLOCATED_TOKENS
        shape, like = self.network.shape, self.network.embedding
        self._keys = like.new_zeros(shape.layers, rows, shape.key_heads, tokens, shape.head_size)
        self._values = torch.zeros_like(self._keys)
        self.sums = like.new_zeros(rows, shape.hidden, dtype=torch.float32)
        self.rewards = like.new_zeros(rows, tokens, self._basis, dtype=torch.float32)
        self.uniforms = like.new_zeros(rows, tokens, 2, dtype=torch.float64)
        self._used = 0

    def _index(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.network.embedding.device)


def placement(prompts: list[Prompt], kept: list[int]) -> list[int]:
    """An order of the rows ``kept``, in which those of one prompt lie together and as many as possible stay put.

    Args:
        prompts: The prompt of each row as it is now.
        kept: The rows that go on; one that is there twice is copied.
    """
    groups: dict[Prompt, list[int]] = {}
    for row in kept:
        groups.setdefault(prompts[row], []).append(row)
    order: list[int] = []
    for group in sorted(groups.values(), key=lambda rows: len(rows) < _SHARED_ROWS):
        order += _in_place(group, len(order))
    return order


def _in_place(group: list[int], start: int) -> list[int]:
    """The group's rows for the places from ``start``: those that lie there already keep theirs."""
    places = range(start, start + len(group))
    staying = set(group) & set(places)
    others = list(group)
    for row in staying:
        others.remove(row)
    return [place if place in staying else others.pop() for place in places]


def _grouped(prompts: list[Prompt]) -> tuple[list[range], range | None]:
    """The rows that share a prompt's only copy, group by group, and those after them that get a copy each."""
    starts = [row for row, prompt in enumerate(prompts) if not row or prompt is not prompts[row - 1]]
    groups = [range(start, stop) for start, stop in zip(starts, [*starts, len(prompts)][1:], strict=True)]
    shared = [group for group in groups if len(group) >= _SHARED_ROWS or len(groups) == 1]
    rest = groups[len(shared) :]
    return shared, range(rest[0].start, rest[-1].stop) if rest else None


def _shared(prompt: Prompt, start: int, stop: int) -> _Segment:
    memory = prompt.memory
    size = _rounded(memory.length)
    mask = beyond(torch.tensor([memory.length], device=memory.keys.device), size, memory.keys)
    return _Segment(start, stop, memory.keys[:, :, :, :size], memory.values[:, :, :, :size], mask)


def _merged(prompts: list[Prompt], start: int, stop: int) -> _Segment:
    """A copy of each row's prompt, padded to the longest; the rows of padding have none."""
    lengths = [one.memory.length for one in prompts] + [0] * (stop - start - len(prompts))
    size, like = _rounded(max(lengths)), prompts[0].memory.keys
    layers, _, key_heads, _, head_size = like.shape
    keys = like.new_zeros(layers, stop - start, key_heads, size, head_size)
    values = torch.zeros_like(keys)
    for row, prompt in enumerate(prompts):
        length = prompt.memory.length
        keys[:, row, :, :length] = prompt.memory.keys[:, 0, :, :length]
        values[:, row, :, :length] = prompt.memory.values[:, 0, :, :length]
    mask = beyond(torch.tensor(lengths, device=like.device), size, like)
    return _Segment(start, stop, keys, values, mask)


def _segment_scores(segment: _Segment, layer: int, query: Tensor, size: int) -> Tensor:
    found = scores(query[segment.start : segment.stop], segment.keys[layer]) + segment.mask
    return found if segment.length == size else functional.pad(found, (0, size - segment.length), value=-torch.inf)


def _segment_mixture(segment: _Segment, layer: int, weights: Tensor) -> Tensor:
    return mixture(weights[segment.start : segment.stop, ..., : segment.length], segment.values[layer])


def _rounded(length: int) -> int:
    return -(-length // PREFIX_MULTIPLE) * PREFIX_MULTIPLE
