"""Llama models of real size with random weights, made on the device in place: no checkpoint is written or read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from app.entities import Conversation
from app.rewards.language import LanguageModel
from app.rewards.linear import Linear
from app.rewards.network import Layer, LlamaNetwork, NetworkShape

_SPREAD = 0.02
_ROTARY_BASE = 500_000.0


@dataclass(frozen=True)
class Size:
    """Sizes of a model; ``inner`` is the feed-forward width."""

    layers: int
    hidden: int
    heads: int
    key_heads: int
    head_size: int
    inner: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """Weights that every decoding step reads, the output's included and the embedding's not."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.key_heads)
        return self.layers * (attention + 3 * self.hidden * self.inner) + self.hidden * self.vocabulary

    def key_value_bytes(self, tokens: int, width: int) -> int:
        """Bytes of the keys and values of ``tokens`` tokens, numbers of ``width`` bytes."""
        return 2 * self.layers * self.key_heads * self.head_size * width * tokens


PRESETS = {
    "tiny": Size(2, 64, 4, 2, 16, 128, 512),
    "1b": Size(16, 2048, 32, 8, 64, 8192, 128_256),
    "3b": Size(28, 3072, 24, 8, 128, 8192, 128_256),
    "8b": Size(32, 4096, 32, 8, 128, 14_336, 128_256),
}


class TokenNumbers:
    """Stands in for ``ChatTokenizer``: tokens read as their numbers, none ends a response and none is banned."""

    end_ids: tuple[int, ...] = ()
    banned_ids: tuple[int, ...] = ()

    def text(self, ids: Sequence[int]) -> str:
        """The numbers."""
        return " ".join(map(str, ids))

    def prompt_ids(self, conversation: Conversation) -> list[int]:
        """The numbers that the last message lists."""
        return [int(number) for number in conversation[-1].content.split()]

    def response_ids(self, text: str) -> list[int]:
        """The numbers that a text lists."""
        return [int(number) for number in text.split()]


def random_model(size: Size, context: int, device: torch.device, dtype: torch.dtype, seed: int = 0) -> LanguageModel:
    """A model with normal weights of the usual spread; the same ones for the same seed and device."""
    generator = torch.Generator(device=device).manual_seed(seed)

    def weights(rows: int, columns: int) -> Tensor:
        made = torch.empty(rows, columns, device=device, dtype=dtype)
        return made.normal_(0.0, _SPREAD, generator=generator)

    shape = NetworkShape(
        size.layers, size.hidden, size.heads, size.key_heads, size.head_size, size.vocabulary, context, 1e-5
    )
    network = LlamaNetwork(
        shape,
        weights(size.vocabulary, size.hidden),
        [_layer(size, weights) for _ in range(size.layers)],
        torch.ones(size.hidden, device=device, dtype=dtype),
        Linear(weights(size.vocabulary, size.hidden)),
        _rotation(size.head_size, context, device, dtype),
    )
    return LanguageModel(network, TokenNumbers(), device, Path("random"))  # type: ignore[arg-type]


def _layer(size: Size, weights: Callable[[int, int], Tensor]) -> Layer:
    queries, keys = size.heads * size.head_size, size.key_heads * size.head_size
    mixed = weights(queries + 2 * keys, size.hidden)
    mixed[:queries] *= size.head_size**-0.5
    return Layer(
        query_key_value=Linear(mixed),
        attention_out=Linear(weights(size.hidden, queries)),
        gate_up=Linear(weights(2 * size.inner, size.hidden)),
        down=Linear(weights(size.hidden, size.inner)),
    )


def _rotation(head_size: int, context: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines as ``weights`` makes them of a checkpoint."""
    frequencies = _ROTARY_BASE ** -(torch.arange(0, head_size, 2, device=device).float() / head_size)
    angles = torch.outer(torch.arange(context, device=device).float(), frequencies)
    cosines, sines = angles.cos(), angles.sin()
    return torch.cat([cosines, cosines], -1).to(dtype), torch.cat([-sines, sines], -1).to(dtype)
