"""Features of texts that people judged: pooled states of a language model, and what can be counted in them.

A text that does not fit into the model's context is read from its beginning. Knows no people and no judgments.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int64

from app.entities import Conversation, Message
from app.rewards.language import ChatTokenizer, LanguageModel, load_language_model
from app.rewards.scorer import pooled_features
from app.training.properties import measure

WIDEST = 4.0
"""Standard scores of what is counted are cut here."""
ALIKE_WITHIN = 1e-3
"""Rounding of states that are read in other batches."""
SMALLEST = 1e-9
"""Spread of states below which they count as all the same."""


@dataclass(frozen=True)
class Text:
    """A response with the conversation before it; ``counted`` is the text whose properties count."""

    conversation: Conversation
    response: str
    counted: str


@dataclass(frozen=True)
class RawFeatures:
    """Pooled states (rows, hidden) and counts (rows, counts) of texts, as they come."""

    states: Float64[np.ndarray, "rows hidden"]
    counts: Float64[np.ndarray, "rows counts"]

    def standardised(self, known: Bool[np.ndarray, " rows"]) -> Float64[np.ndarray, "rows features"]:
        """Centred states of unit mean variance beside standard scores of the counts, both by the ``known`` rows alone.

        States are not whitened: what varies most between texts also says most of texts on other topics.
        """
        centred = self.states - self.states[known].mean(axis=0)
        size = float(np.sqrt(np.square(centred[known]).mean()))
        mean, spread = self.counts[known].mean(axis=0), self.counts[known].std(axis=0)
        scores = (self.counts - mean) / np.where(spread > 0.0, spread, 1.0)
        return np.hstack([centred / max(size, SMALLEST), np.clip(scores, -WIDEST, WIDEST)])

    def is_like(self, others: "RawFeatures", rows: Int64[np.ndarray, " rows"]) -> bool:
        """Whether these are the features of ``rows`` of ``others``, up to the rounding of a model's batches."""
        states = np.allclose(self.states, others.states[rows], rtol=ALIKE_WITHIN, atol=ALIKE_WITHIN)
        return bool(states and np.array_equal(self.counts, others.counts[rows]))


@lru_cache(maxsize=4)
def raw_features(texts: tuple[Text, ...], model: Path) -> RawFeatures:
    """Read ``texts`` with the checkpoint in ``model``; kept in memory, since every seed reads the same texts."""
    reader = load_language_model(model)
    rows = [fitted(text, reader) for text in texts]
    counts = np.array([[*measure(text.counted), *_sizes(text.counted)] for text in texts])
    return RawFeatures(pooled_features(reader, rows).astype(np.float64), counts)


def fitted(text: Text, model: LanguageModel) -> tuple[Conversation, str]:
    """Conversation and response, each cut to half of the context where it is longer.

    A conversation's messages then get equal parts, so that none of them is lost.
    """
    tokenizer, conversation, half = model.tokenizer, text.conversation, model.context // 2
    if len(tokenizer.prompt_ids(conversation)) > half:
        marks = len(tokenizer.prompt_ids(tuple(Message(one.role, "") for one in conversation)))
        most = (half - marks) // len(conversation)
        conversation = tuple(Message(one.role, shortened(one.content, most, tokenizer)) for one in conversation)
    return conversation, shortened(text.response, half, tokenizer)


def shortened(text: str, most: int, tokenizer: ChatTokenizer) -> str:
    """The longest beginning of ``text`` found that has at most ``most`` tokens when it is read again."""
    ids = tokenizer.response_ids(text)
    kept = most
    while len(ids) > most:
        text = tokenizer.text(ids[:kept])
        ids = tokenizer.response_ids(text)
        kept = min(kept, len(ids)) - 1
    return text


def _sizes(text: str) -> tuple[float, float, float, float]:
    """Logarithms of characters and words, and their squares: a liking may have its best length."""
    characters, words = np.log1p(len(text)), np.log1p(len(text.split()))
    return characters, words, characters**2, words**2
