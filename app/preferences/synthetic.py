"""Simulated people whose true coefficients are known, for tests and evaluations. Every draw comes from ``rng``."""

import numpy as np
from jaxtyping import Float64

from app.preferences.belief import Belief
from app.preferences.logistic import sigmoid


def draw_people(population: Belief, count: int, rng: np.random.Generator) -> Float64[np.ndarray, "people basis"]:
    """Draw the coefficients (``count``, K) of people from a population.

    Args:
        population: What the coefficients follow, in log-odds per unit of basis reward; of any family.
        count: Number of people, zero or more.
        rng: Source of randomness; it is advanced.
    """
    return population.draw(count, rng)


def answer(
    coefficients: Float64[np.ndarray, " basis"],
    differences: Float64[np.ndarray, "comparisons basis"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, " comparisons"]:
    """Answer pairs as a Bradley-Terry person does: first with probability sigmoid(differences @ coefficients).

    Args:
        coefficients: The person's true coefficients.
        differences: Basis rewards of the first candidate minus the second.
        rng: Source of randomness; it is advanced by one uniform number per pair.

    Returns:
        1.0 where the first candidate is preferred, else 0.0 (N,).

    Source:
        Bradley and Terry, Rank Analysis of Incomplete Block Designs (1952), eq. 1.
    """
    return (rng.random(len(differences)) < sigmoid(differences @ coefficients)).astype(np.float64)
