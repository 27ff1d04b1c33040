"""Whether texts are still good language: log-probability under the base model, and repetition. Knows no people."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float64

from app.rewards.language import LanguageModel
from app.rewards.trunk import Row

_TOKENS_TOGETHER = 4096


def repetition(text: str, size: int = 4) -> float:
    """Share of the ``size``-grams of words that occurred before in the same text; 0 for shorter texts."""
    words = text.split()
    grams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


@torch.inference_mode()
def log_probabilities(model: LanguageModel, rows: Sequence[Row]) -> Float64[np.ndarray, " rows"]:
    """Mean log-probability of each response's tokens in nats, at temperature 1; nan for a response without tokens.

    Tokens that no response can have are left out of the distribution, as in decoding.
    """
    tokenizer = model.tokenizer
    pairs = [(tokenizer.prompt_ids(prompt), tokenizer.response_ids(text)) for prompt, text in rows]
    banned = torch.tensor(tokenizer.banned_ids, dtype=torch.long, device=model.device)
    found = np.full(len(rows), np.nan)
    for batch in _batches(pairs):
        ids = model.tensor([[*pairs[row][0], *pairs[row][1]] for row in batch])
        cache = model.network.new_cache(len(batch), ids.shape[1])
        states = model.network.forward(ids, cache)
        for place, row in enumerate(batch):
            start, count = len(pairs[row][0]), len(pairs[row][1])
            logits = model.network.logits(states[place, start - 1 : start + count - 1]).float()
            logits.index_fill_(1, banned, -torch.inf)
            taken = logits.log_softmax(dim=-1).gather(1, ids[place, start : start + count, None])
            found[row] = float(taken.double().mean())
    return found


def _batches(pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[list[int]]:
    """Rows of similar length that are read together; rows without a response in none."""
    lengths = [len(prompt) + len(response) for prompt, response in pairs]
    batch: list[int] = []
    for row in sorted((row for row, pair in enumerate(pairs) if pair[1]), key=lengths.__getitem__):
        if batch and lengths[row] * (len(batch) + 1) > _TOKENS_TOGETHER:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
