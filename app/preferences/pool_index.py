"""A pool of pairs prepared for many choices of the most informative one. Knows nothing of prompts or texts."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from app.preferences.belief import Belief
from app.preferences.gaussian import Posterior, check_rows
from app.preferences.information import information_bound, least_variance
from app.preferences.information_search import InformationSearch
from app.preferences.selection import Rule, Selection, expected_information_bits, select_pair, without_repeats

ROWS_PER_BLOCK = 16_384  # rows x basis rewards stays in the second-level cache
ROWS_AT_FIRST = 256  # evaluated whatever they are; what they tell rules out most of the others
SHARP_DIRECTIONS = 3  # directions of large variance that a bound treats one by one
METRIC_RIDGE = 1e-6  # of the mean variance: a covariance of low rank still gives every direction some length


@dataclass(frozen=True, eq=False)
class PoolIndex:
    """Pairs in the order of their length under a covariance, longest first: ``PoolIndex.of`` builds it once a pool.

    ``differences`` (N, K) are the pairs as given. ``whitened`` (K, N) are the sorted rows ``factor.T @ x`` as columns,
    rounded to half the bytes because they only serve bounds; ``lengths`` (N,) their squared lengths, decreasing;
    ``order`` (N,) where each was in the pool. ``factor`` (K, K) is the covariance's lower Cholesky factor.
    """

    differences: Float64[np.ndarray, "pairs basis"]
    whitened: Float32[np.ndarray, "basis pairs"]
    lengths: Float32[np.ndarray, " pairs"]
    order: Int64[np.ndarray, " pairs"]
    factor: Float64[np.ndarray, "basis basis"]

    @classmethod
    def of(cls, differences: Float64[np.ndarray, "pairs basis"], belief: Belief) -> "PoolIndex":
        """Sort a pool; ``belief`` is best the population's, but any gives the same choices.

        Raises:
            ValueError: If ``differences`` is not finite or has another K than ``belief``.
        """
        check_rows(differences, belief.size)
        least_variance(0.0)  # builds the table of bounds now, not during a person's first question
        covariance = belief.covariance()
        ridge = max(METRIC_RIDGE * float(np.trace(covariance)) / belief.size, np.finfo(np.float64).tiny)
        factor = np.linalg.cholesky(covariance + ridge * np.eye(belief.size))
        whitened = differences @ factor
        lengths = np.einsum("nk,nk->n", whitened, whitened)
        order = np.argsort(-lengths, kind="stable")
        columns = np.ascontiguousarray(whitened[order].T, dtype=np.float32)
        return cls(differences, columns, lengths[order].astype(np.float32), order, factor)

    def select(
        self,
        belief: Belief,
        allowed: Bool[np.ndarray, " pairs"],
        *,
        rule: Rule = expected_information_bits,
        asked: Float64[np.ndarray, "asked basis"] | None = None,
    ) -> Selection | None:
        """What ``select_pair`` chooses of this pool, faster for Gaussian beliefs and the expected information.

        Args:
            belief: Belief about the coefficients, below the index' or not.
            allowed: Rows that may be asked, in the pool's own order.
            rule: Gain of each row.
            asked: Rows asked before: their near-duplicates are chosen only if nothing else is allowed.

        Returns:
            The pair, the lowest row among equal gains; None if no row is allowed.

        Raises:
            ValueError: If ``allowed`` has another length than the pool or ``belief`` another K.
        """
        if rule is not expected_information_bits or not isinstance(belief, Posterior):
            return select_pair(belief, self.differences, allowed, rule=rule, asked=asked)
        shape = self.differences.shape
        if (*allowed.shape, belief.size) != shape:
            raise ValueError(
                f"The pool is {shape}, but allowed {allowed.shape} and there are {belief.size} coefficients."
            )
        bounds = _Bounds.of(belief, self.factor)
        return without_repeats(lambda mask: self._scan(belief, bounds, mask), self.differences, allowed, asked)

    def _scan(self, belief: Posterior, bounds: "_Bounds", allowed: Bool[np.ndarray, " pairs"]) -> Selection | None:
        """Search the blocks until no row is long enough to tell as much as the best pair found."""
        search = InformationSearch()
        for block in _blocks(len(self.order)):
            needed = least_variance(search.floor)
            if bounds.largest * self.lengths[block.start] < needed:
                break
            parts = bounds.directions @ self.whitened[:, block]
            variances = bounds.variances(parts, self.lengths[block])
            hopeful = np.flatnonzero(variances >= needed)
            if len(hopeful) == 0:
                continue
            means = bounds.means(parts[0, hopeful], self.lengths[block.start])
            hopeful = hopeful[information_bound(means, variances[hopeful]) >= search.floor]
            rows = self.order[block][hopeful]
            rows = rows[allowed[rows]]
            search.offer(rows, *belief.project(self.differences[rows]))
        found = search.result()
        return None if found is None else Selection(*found)


def _blocks(count: int) -> Iterator[slice]:
    """Ranges that cover ``count`` rows, a short one first."""
    start, stop = 0, ROWS_AT_FIRST
    while start < count:
        yield slice(start, min(stop, count))
        start, stop = stop, stop + ROWS_PER_BLOCK


@dataclass(frozen=True, eq=False)
class _Bounds:
    """Bounds on the margins of whitened columns y: |mean| from below and variance from above.

    With B the belief's covariance in the index' units and (l_j, q_j) its eigenpairs, largest first,
    yᵀ B y <= l_r |y|² + sum_{j<r} (l_j - l_r) (q_j · y)². Everything is widened by what single precision may lose.
    """

    directions: Float32[np.ndarray, "directions basis"]
    mean_rounding: np.float32
    rest: np.float32
    largest: float

    @classmethod
    def of(cls, belief: Posterior, factor: Float64[np.ndarray, "basis basis"]) -> "_Bounds":
        unit = np.linalg.solve(factor, np.column_stack([belief.mean, belief.whitening.T]))
        left, singular, _ = np.linalg.svd(unit[:, 1:])
        variances = np.square(singular)
        sharp = min(SHARP_DIRECTIONS, belief.size - 1)
        columns = np.column_stack([unit[:, 0], left[:, :sharp] * np.sqrt(variances[:sharp] - variances[sharp])])
        rounding = 4.0 * (belief.size + SHARP_DIRECTIONS) * float(np.finfo(np.float32).eps)
        return cls(
            directions=np.ascontiguousarray(columns.T, dtype=np.float32),
            mean_rounding=np.float32(rounding * np.linalg.norm(unit[:, 0])),
            rest=np.float32(variances[sharp] + rounding * variances[0]),
            largest=float(variances[0]) * (1.0 + rounding),
        )

    def variances(
        self, parts: Float32[np.ndarray, "directions rows"], lengths: Float32[np.ndarray, " rows"]
    ) -> Float32[np.ndarray, " rows"]:
        """Largest variance of each row's margin, from ``directions @ y``."""
        return np.asarray(self.rest * lengths + np.einsum("dn,dn->n", parts[1:], parts[1:]), dtype=np.float32)

    def means(self, parts: Float32[np.ndarray, " rows"], longest: np.float32) -> Float32[np.ndarray, " rows"]:
        """Least |mean| of each row's margin, from the first of ``directions @ y``; ``longest`` bounds |y|²."""
        means = np.abs(parts) - self.mean_rounding * np.sqrt(longest)
        return np.asarray(np.maximum(means, 0.0), dtype=np.float32)
