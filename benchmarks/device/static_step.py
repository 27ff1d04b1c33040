"""A decoding step whose tensors never change place or size, so that a CUDA graph can replay it.

``StaticMemory`` implements ``attention.Memory`` with buffers of fixed capacity; how far they are filled is a number on
the device, so nothing is read back from it and every step runs the same kernels. ``DecodingStep`` feeds one token a row
through the network and gives logits and basis rewards; with ``graphs`` the whole step is captured once and launched as
one. The same code runs without graphs on any device.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from app.rewards.attention import KeyValues, mixture, scores
from app.rewards.network import LlamaNetwork

_WARM_UPS = 3


class StaticMemory:
    """One prompt that all rows share, and own tokens of each row, in buffers that stay where they are.

    ``filled`` (1,) counts the rows' own tokens; all rows have as many.
    """

    def __init__(self, prompt: KeyValues, rows: int, capacity: int) -> None:
        layers, _, key_heads, _, head_size = prompt.keys.shape
        self.prompt = prompt
        self.keys = prompt.keys.new_zeros(layers, rows, key_heads, capacity, head_size)
        self.values = torch.zeros_like(self.keys)
        self.filled = torch.zeros(1, dtype=torch.long, device=prompt.keys.device)
        self._places = torch.arange(capacity, device=prompt.keys.device)
        self._zero = prompt.keys.new_zeros(())
        self._mask = self._zero

    def places(self, length: int) -> Int[Tensor, "rows tokens"]:
        """As ``Memory.places``; ``length`` is 1."""
        assert length == 1
        self._mask = torch.where(self._places > self.filled, -torch.inf, self._zero)
        return (self.filled + self.prompt.length)[None]

    def attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As ``Memory.attend``, over the whole capacity; what is not filled has weight zero."""
        self.keys[layer].index_copy_(2, self.filled, keys)
        self.values[layer].index_copy_(2, self.filled, values)
        length = self.prompt.length
        before, early = self.prompt.keys[layer, :, :, :length], self.prompt.values[layer, :, :, :length]
        own = scores(query, self.keys[layer]) + self._mask
        weights = torch.softmax(torch.cat([scores(query, before), own], dim=-1), dim=-1)
        return mixture(weights[..., :length], early) + mixture(weights[..., length:], self.values[layer])

    def advance(self, length: int) -> None:
        """As ``Memory.advance``."""
        self.filled += length


class DecodingStep:
    """One token a row: states, logits, and basis rewards where there are heads."""

    def __init__(
        self,
        network: LlamaNetwork,
        memory: StaticMemory,
        heads: Float[Tensor, "basis hidden"] | None,
        *,
        graphs: bool = False,
    ) -> None:
        """Prepare a step, captured as a CUDA graph where ``graphs`` says so: then the memory has to be on a GPU."""
        rows = memory.keys.shape[1]
        self.network, self.memory, self.heads = network, memory, heads
        self.tokens = torch.zeros(rows, dtype=torch.long, device=memory.keys.device)
        self.logits = self.rewards = memory.keys.new_zeros(0)
        self._graph = self._captured() if graphs else None

    def __call__(self, tokens: Int[Tensor, " rows"]) -> tuple[Tensor, Tensor]:
        """Logits (rows, V) and basis rewards (rows, K) after one more token a row; overwritten by the next call."""
        self.tokens.copy_(tokens)
        if self._graph is None:
            self._compute()
        else:
            self._graph.replay()
        return self.logits, self.rewards

    @torch.inference_mode()
    def _compute(self) -> None:
        states = self.network.read(self.tokens[:, None], self.memory)[:, 0]
        self.logits = self.network.logits(states)
        if self.heads is not None:
            self.rewards = states.float() @ self.heads.T

    @torch.inference_mode()
    def _captured(self) -> "torch.cuda.CUDAGraph":
        """The step as a graph. It runs a few times before, as capturing demands, and the memory is empty afterwards."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self._compute()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._compute()
        self.memory.filled.zero_()
        return graph
