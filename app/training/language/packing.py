"""Packs token sequences into rows of equal length, so that almost no training step is padding.

A row holds whole documents; ``segments`` numbers them so that attention never crosses from one
document to another. Documents longer than a row are cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PackedRows:
    """``tokens``, ``segments`` and ``documents``, each (rows, length+1).

    ``segments`` numbers the documents of a row 1, 2, … and is 0 where padded; ``documents`` gives
    the index of the document that a position belongs to, -1 where padded.
    """

    tokens: np.ndarray
    segments: np.ndarray
    documents: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)


def pack(documents: list[list[int]], length: int, rng: np.random.Generator, pad: int = 0) -> PackedRows:
    """Best-fit packing of shuffled documents into rows of ``length + 1`` tokens.

    Each document goes to the fullest open row that still has room; a new row is opened otherwise.
    """
    width = length + 1
    spaces: list[list[int]] = [[] for _ in range(width + 1)]  # row numbers by free room
    rows: list[list[int]] = []
    order = np.argsort([-min(len(document), width) for document in documents], kind="stable")
    for number in order:
        size = min(len(documents[number]), width)
        room = next((room for room in range(size, width + 1) if spaces[room]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, width
        else:
            row = spaces[room].pop()
        rows[row].append(int(number))
        spaces[room - size].append(row)
    return _lay_out(documents, rows, width, rng, pad)


def _lay_out(
    documents: list[list[int]], rows: list[list[int]], width: int, rng: np.random.Generator, pad: int
) -> PackedRows:
    shape = (len(rows), width)
    packed = PackedRows(np.full(shape, pad, np.uint16), np.zeros(shape, np.uint8), np.full(shape, -1, np.int32))
    for place, row in enumerate(rng.permutation(len(rows))):
        start = 0
        for segment, index in enumerate(rng.permutation(rows[row]), start=1):
            document = documents[index][:width]
            span = slice(start, start + len(document))
            packed.tokens[place, span] = document
            packed.segments[place, span] = min(segment, 255)
            packed.documents[place, span] = index
            start = span.stop
    return packed


def batches(rows: PackedRows, size: int) -> Iterator[PackedRows]:
    """Consecutive full batches; the incomplete last one is left out."""
    for start in range(0, len(rows) - size + 1, size):
        span = slice(start, start + size)
        yield PackedRows(rows.tokens[span], rows.segments[span], rows.documents[span])
