"""Gaussian belief about one person's coefficients. Knows nothing of answers; ``posterior.py`` updates it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64

from app.preferences.belief import Margins

SYMMETRY_TOLERANCE = 1e-9  # of the largest entry: what inverting and storing a matrix may leave


@dataclass(frozen=True)
class Posterior:
    """Gaussian with ``mean`` (K,) and ``precision`` (K, K), in log-odds per unit of basis reward.

    Raises:
        ValueError: If the shapes disagree, an entry is not finite, or ``precision`` is not symmetric and positive
            definite.
    """

    mean: Float64[np.ndarray, " basis"]
    precision: Float64[np.ndarray, "basis basis"]

    def __post_init__(self) -> None:
        size = self.mean.shape[0] if self.mean.ndim == 1 else 0
        if size == 0 or self.precision.shape != (size, size):
            raise ValueError(
                f"mean {self.mean.shape} and precision {self.precision.shape} do not fit; pass (K,) and (K, K), K >= 1."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.precision).all()):
            raise ValueError("mean and precision must be finite; remove NaN and infinity.")
        asymmetry = np.abs(self.precision - self.precision.T).max()
        if asymmetry > SYMMETRY_TOLERANCE * np.abs(self.precision).max():
            raise ValueError(f"precision is asymmetric by {asymmetry:g}; pass (precision + precision.T) / 2.")
        _ = self.whitening  # factorises now, so that an indefinite matrix fails here and not at its first use

    @property
    def size(self) -> int:
        """Number of basis rewards, K."""
        return int(self.mean.shape[0])

    @cached_property
    def whitening(self) -> Float64[np.ndarray, "basis basis"]:
        """Inverse of the precision's lower Cholesky factor: ``covariance = whitening.T @ whitening``.

        Raises:
            ValueError: If the precision is not positive definite.
        """
        try:
            factor = np.linalg.cholesky(self.precision)
        except np.linalg.LinAlgError as error:
            raise ValueError("precision is not positive definite; give every direction some precision.") from error
        return np.asarray(np.linalg.inv(factor), dtype=np.float64)

    def covariance(self) -> Float64[np.ndarray, "basis basis"]:
        """Inverse of the precision (K, K), exactly symmetric, in squared log-odds per squared unit of basis reward."""
        return np.asarray(self.whitening.T @ self.whitening, dtype=np.float64)

    def std(self) -> Float64[np.ndarray, " basis"]:
        """Standard deviation of each coefficient (K,), the others unknown."""
        return np.asarray(np.sqrt(np.square(self.whitening).sum(axis=0)), dtype=np.float64)

    def project(
        self, rows: Float64[np.ndarray, "rows basis"]
    ) -> tuple[Float64[np.ndarray, " rows"], Float64[np.ndarray, " rows"]]:
        """Mean and variance of ``rows @ coefficients``.

        Args:
            rows: Basis rewards, or differences of basis rewards; may have no rows.

        Returns:
            The means (N,) in log-odds and the variances (N,), never negative.

        Raises:
            ValueError: If ``rows`` is not finite or has another K.
        """
        check_rows(rows, self.size)
        return rows @ self.mean, np.square(rows @ self.whitening.T).sum(axis=1)

    def margins(self, rows: Float64[np.ndarray, "rows basis"]) -> Margins:
        """Distribution of ``rows @ coefficients``: one component a row, refused as ``project`` does."""
        means, variances = self.project(rows)
        return Margins(np.ones(1), means[:, None], variances[:, None])

    def draw(self, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "draws basis"]:
        """``count`` coefficient vectors (``count``, K); advances ``rng`` by one normal number an entry."""
        noise = rng.standard_normal((count, self.size))
        return np.asarray(self.mean + noise @ self.whitening, dtype=np.float64)

    def moved(self, offset: Float64[np.ndarray, " basis"]) -> "Posterior":
        """The same spread around ``mean + offset``; raises ``ValueError`` if the offset is not finite or not (K,)."""
        if offset.shape != self.mean.shape:
            raise ValueError(f"offset is {offset.shape}, but there are {self.size} coefficients; pass one entry each.")
        return Posterior(self.mean + offset, self.precision)


def check_rows(rows: Float64[np.ndarray, "rows columns"], size: int) -> None:
    """Refuse rows of basis rewards that a belief about ``size`` coefficients cannot use.

    Raises:
        ValueError: If ``rows`` is not (N, ``size``) or holds NaN or infinity.
    """
    if rows.ndim != 2 or rows.shape[1] != size:
        raise ValueError(f"Basis rewards have shape {rows.shape}, but the coefficients need (N, {size}).")
    if not np.isfinite(rows).all():
        raise ValueError("Basis rewards must be finite; remove NaN and infinity.")
