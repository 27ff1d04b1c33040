"""Random beliefs and dense integration: the oracles that the numerical core is held against."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jaxtyping
import numpy as np
from jaxtyping import Float64

from app.preferences.posterior import Posterior


def random_belief(rng: np.random.Generator, size: int, spread: float = 1.0) -> Posterior:
    """A belief with correlated coefficients whose standard deviations are about ``spread``."""
    factor = rng.standard_normal((size, size + 2)) / np.sqrt(size + 2)
    inverse = np.linalg.inv(spread**2 * (factor @ factor.T + 0.1 * np.eye(size)))
    return Posterior(spread * rng.standard_normal(size), (inverse + inverse.T) / 2)


def standard_belief(size: int, std: float = 1.0) -> Posterior:
    """Independent coefficients around zero."""
    return Posterior(np.zeros(size), np.eye(size) / std**2)


def random_answers(
    rng: np.random.Generator, count: int, size: int
) -> tuple[Float64[np.ndarray, "comparisons basis"], Float64[np.ndarray, " comparisons"]]:
    """Random pairs, with answers of all three kinds."""
    return rng.standard_normal((count, size)), rng.choice([0.0, 0.5, 1.0], count)


def dense_expectation(
    function: Callable[[Float64[np.ndarray, " points"]], Float64[np.ndarray, " points"]], mean: float, std: float
) -> float:
    """E function(m), m ~ N(mean, std²), on 20,001 points over ten standard deviations either side."""
    points = np.linspace(-10.0, 10.0, 20_001)
    weights = np.exp(-(points**2) / 2)
    return float(function(mean + std * points) @ weights / weights.sum())


@contextmanager
def unchecked_shapes() -> Iterator[None]:
    """Shape annotations switched off, as in service: for checks by hand, and for simulations they slow down tenfold."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
