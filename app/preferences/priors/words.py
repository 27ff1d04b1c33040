"""What a person writes of themselves as a vector of hashed words and word pairs. Knows nothing of preferences."""

import re
import zlib
from collections.abc import Sequence
from itertools import islice, pairwise

import numpy as np
from jaxtyping import Float64

BUCKETS = 1024
MOST_WORDS = 2000  # of one text, the first ones: as many as 4,000 characters can hold
WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def hashed_words(texts: Sequence[str | None]) -> Float64[np.ndarray, "texts buckets"]:
    """How often each bucket's words and neighbouring word pairs occur, with a sign by hash, damped as sign log(1 + n).

    The same text gives the same bits in every process. Case does not matter; None and texts without words are zero.
    Of a longer text the first ``MOST_WORDS`` words count.

    Args:
        texts: What people wrote, or None.

    Returns:
        Rows (texts, ``BUCKETS``), not yet weighted or normalised.

    Source:
        Weinberger et al., Feature Hashing for Large Scale Multitask Learning (2009), eq. 1.
    """
    rows = np.zeros((len(texts), BUCKETS))
    for row, text in zip(rows, texts, strict=True):
        words = [match.group() for match in islice(WORD.finditer((text or "").casefold()), MOST_WORDS)]
        hashes = np.array([zlib.crc32(term.encode()) for term in _terms(words)], dtype=np.int64)
        np.add.at(row, hashes % BUCKETS, np.where(hashes & (1 << 31), -1.0, 1.0))
    return np.asarray(np.sign(rows) * np.log1p(np.abs(rows)), dtype=np.float64)


def rarities(counts: Float64[np.ndarray, "texts buckets"]) -> Float64[np.ndarray, " buckets"]:
    """Weight of each bucket: log of texts over texts that use it, and 1 where none does."""
    used = (counts != 0.0).sum(axis=0)
    return np.asarray(np.log((1.0 + len(counts)) / (1.0 + used)) + 1.0, dtype=np.float64)


def unit_rows(
    counts: Float64[np.ndarray, "texts buckets"], weights: Float64[np.ndarray, " buckets"]
) -> Float64[np.ndarray, "texts buckets"]:
    """Weighted rows of length one; rows of zeros stay."""
    rows = counts * weights
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.where(lengths > 0.0, lengths, 1.0), dtype=np.float64)


def _terms(words: list[str]) -> list[str]:
    """The words and the pairs of neighbours."""
    return words + [f"{before} {after}" for before, after in pairwise(words)]
