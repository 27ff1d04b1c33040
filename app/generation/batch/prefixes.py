"""Prompts read lately, so that a conversation's next turn reads only what is new in it.

Knows token ids and what a network remembers of them; nothing of requests.
"""

from collections import OrderedDict

import numpy as np
from jaxtyping import Int64

from app.generation.batch.rows import Prompt
from app.rewards.language import LanguageModel

_LEAST_REUSED = 16
"""Shorter beginnings are read again: it takes no time, and products of fewer tokens round otherwise (measured)."""

_Kept = OrderedDict[tuple[int, ...], tuple[Prompt, Int64[np.ndarray, " tokens"]]]


class Prefixes:
    """At most ``tokens`` tokens of prompts, those used longest ago forgotten first. 0 keeps nothing.

    One thread reads; any may let it forget, also in the middle of a prompt, which is not kept then.
    """

    def __init__(self, model: LanguageModel, tokens: int) -> None:
        self._model, self._budget = model, tokens
        self._kept: _Kept = OrderedDict()

    @property
    def tokens(self) -> int:
        """Tokens kept."""
        return sum(len(ids) for ids in self._kept)

    def read(self, ids: list[int]) -> tuple[Prompt, int]:
        """The prompt ``ids``, read by the network from where the most similar one kept departs; and that place.

        The states are those of a prompt read from its beginning: in float32 on a CPU bit for bit, as measured.
        """
        kept = self._kept
        known, length = _most_similar(kept, np.array(ids))
        if known is not None and length == len(ids) == len(known.ids):
            kept.move_to_end(known.ids)
            return known, length
        length = min(length, len(ids) - 1)  # the last token has to be read for its state
        length = length if length >= _LEAST_REUSED else 0
        cache = None if known is None or not length else known.memory.beginning(length, len(ids))
        memory, state = self._model.network.prefill(self._model.tensor([ids[length:]]), cache=cache)
        prompt = Prompt(tuple(ids), memory, state)
        self._keep(kept, prompt)
        return prompt, length

    def forget(self) -> None:
        """Keep no prompt any more, nor one that is being read."""
        self._kept = OrderedDict()

    def _keep(self, kept: _Kept, prompt: Prompt) -> None:
        if len(prompt.ids) > self._budget:
            return
        kept[prompt.ids] = prompt, np.array(prompt.ids)
        tokens = sum(map(len, kept))
        while tokens > self._budget:
            tokens -= len(kept.popitem(last=False)[0])


def _most_similar(kept: _Kept, ids: Int64[np.ndarray, " tokens"]) -> tuple[Prompt | None, int]:
    best, longest = None, 0
    for prompt, other in kept.values():
        size = min(len(ids), len(other))
        different = (ids[:size] != other[:size]).argmax() if size else 0
        length = size if not size or ids[different] == other[different] else int(different)
        if length > longest or (length == longest and best is not None and len(other) == len(ids)):
            best, longest = prompt, length
    return best, longest
