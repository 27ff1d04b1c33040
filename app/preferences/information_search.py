"""Finds the pair that tells most, evaluating few of many. Knows pairs only by an index and a Gaussian margin."""

import numpy as np
from jaxtyping import Float64, Int64

from app.preferences.information import gaussian_information_bits, information_bound

TIE_TOLERANCE = 1e-9  # relative: gains of equal pairs may differ by rounding, and then the lowest index wins


class InformationSearch:
    """The largest information among the pairs offered so far, and the pairs that have it up to rounding.

    The result is that of evaluating every pair: only pairs whose ``information_bound`` is below the largest
    information found are left out.
    """

    def __init__(self) -> None:
        self._best = 0.0
        self._indices = np.empty(0, dtype=np.int64)
        self._bits = np.empty(0)

    @property
    def floor(self) -> float:
        """Bits below which a pair cannot be the answer any more."""
        return self._best * (1.0 - TIE_TOLERANCE)

    def offer(
        self,
        indices: Int64[np.ndarray, " pairs"],
        means: Float64[np.ndarray, " pairs"],
        variances: Float64[np.ndarray, " pairs"],
    ) -> None:
        """Look at pairs with Gaussian margins, in log-odds and squared log-odds; the indices are handed back only."""
        bounds = information_bound(means, variances)
        hopeful = np.flatnonzero(bounds >= self.floor)
        if len(hopeful) == 0:
            return
        first = hopeful[np.argmax(bounds[hopeful])]
        self._best = max(self._best, float(gaussian_information_bits(means[[first]], variances[[first]])[0]))
        hopeful = hopeful[bounds[hopeful] >= self.floor]
        bits = gaussian_information_bits(means[hopeful], variances[hopeful])
        self._best = max(self._best, float(bits.max(initial=0.0)))
        bits, found = np.concatenate([self._bits, bits]), np.concatenate([self._indices, indices[hopeful]])
        tied = bits >= self.floor
        self._bits, self._indices = bits[tied], found[tied]

    def result(self) -> tuple[int, float] | None:
        """Index and bits of the pair that tells most, the lowest index among equals; None if none was offered."""
        if len(self._indices) == 0:
            return None
        place = int(np.argmin(self._indices))
        return int(self._indices[place]), float(self._bits[place])
