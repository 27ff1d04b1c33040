"""Groups of texts that no comparison connects: what can be held out without a text being on both sides."""

import numpy as np
from jaxtyping import Int64


def connected(
    first: Int64[np.ndarray, " pairs"], second: Int64[np.ndarray, " pairs"], rows: int
) -> Int64[np.ndarray, " rows"]:
    """Name of the group of each row: rows that a chain of pairs connects share the smallest index among them."""
    names = np.arange(rows)
    while True:
        smaller = np.minimum(names[first], names[second])
        before = names.copy()
        np.minimum.at(names, first, smaller)
        np.minimum.at(names, second, smaller)
        names = names[names]
        if (names == before).all():
            return names
