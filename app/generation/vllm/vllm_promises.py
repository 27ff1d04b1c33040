"""What beginnings promise, computed from the rows that vLLM's worker kept. Pure arithmetic on numpy arrays."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from app.rewards.export import VirtualRows
from app.rewards.values import ValueHeads


class Promises:
    """Value heads whose weights are rows of the checkpoint, so that only their constants are left to add."""

    def __init__(self, values: ValueHeads, rows: VirtualRows) -> None:
        """Use ``values`` as they lie in ``rows``."""
        self._bounds, self._rows = values.bounds, rows
        self._offset, self._errors = values.offset.astype(np.float64), values.errors.astype(np.float64)

    def predict(
        self, readings: Float64[np.ndarray, "texts two columns"], counts: Sequence[int]
    ) -> Float64[np.ndarray, "texts basis"]:
        """Basis rewards that beginnings promise for their finished texts, offset included.

        Args:
            readings: For each text the sum of its tokens' rows, and the last of them.
            counts: How many tokens each has, at least 1.
        """
        size = self._rows.rewards
        found = np.empty((len(counts), size))
        for place, (bucket, count) in enumerate(zip(self._buckets(counts), counts, strict=True)):
            sums, last = readings[place]
            start = size + 1 + 2 * bucket * size
            of_mean = sums[start + size : start + 2 * size] / count
            found[place] = last[start : start + size] + of_mean + self._offset[bucket]
        return found

    def variances(
        self, coefficients: Float64[np.ndarray, " basis"], counts: Sequence[int]
    ) -> Float64[np.ndarray, " texts"]:
        """Variances of the predictions' errors under one person's coefficients."""
        of_bucket = np.einsum("j,bjk,k->b", coefficients, self._errors, coefficients)
        variances: np.ndarray = np.maximum(of_bucket, 0.0)[self._buckets(counts)]
        return variances

    def _buckets(self, counts: Sequence[int]) -> list[int]:
        found = np.searchsorted(self._bounds, counts, side="right") - 1
        return [max(0, int(one)) for one in found]
