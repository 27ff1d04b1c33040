"""Simulated people: tastes over measurable properties of text, drawn from a correlated population.

A person's hidden taste is a vector of weights on standardised properties. Their true reward for a
text is ``taste @ properties``; asked to compare two texts they answer with Bradley-Terry noise. The
population has a part common to everyone, a few shared factors, and a part of each person's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.training.properties import PROPERTIES, PropertyScale

COMMON = {"warmth": 0.35, "structure": 0.25, "concreteness": 0.4, "simplicity": 0.3, "length": 0.25, "hedging": -0.2}
FACTORS = (
    {"formality": 0.6, "enthusiasm": -0.5, "warmth": -0.4, "voice": -0.3},
    {"length": 0.7, "concreteness": 0.4, "structure": 0.4, "simplicity": -0.3},
    {"questions": 0.5, "warmth": 0.4, "voice": 0.4, "hedging": 0.3},
)
OWN = 0.55


@dataclass(frozen=True)
class SimulatedPeople:
    """``tastes`` (people, 10) over properties on ``scale``, in log-odds per standard deviation."""

    tastes: Float64[np.ndarray, "people properties"]
    scale: PropertyScale

    def rewards(self, texts: Sequence[str]) -> Float64[np.ndarray, "people texts"]:
        """True reward of each person for each text, in log-odds."""
        rewards: Float64[np.ndarray, "people texts"] = self.tastes @ self.scale.standardise(texts).T
        return rewards


def draw_tastes(count: int, rng: np.random.Generator) -> Float64[np.ndarray, "people properties"]:
    """Tastes of ``count`` new people: common part, three shared factors and an own part."""
    common, loadings = _row(COMMON), np.array([_row(factor) for factor in FACTORS])
    shared = rng.standard_normal((count, len(FACTORS))) @ loadings
    tastes: Float64[np.ndarray, "people properties"] = (
        common + shared + OWN * rng.standard_normal((count, len(PROPERTIES)))
    )
    return tastes


def choose(
    first: Float64[np.ndarray, " pairs"], second: Float64[np.ndarray, " pairs"], rng: np.random.Generator
) -> Float64[np.ndarray, " pairs"]:
    """Answers of a Bradley-Terry person to pairs with these true rewards: 1.0 where first is chosen."""
    probability = 1.0 / (1.0 + np.exp(second - first))
    answers: Float64[np.ndarray, " pairs"] = (rng.random(len(first)) < probability).astype(np.float64)
    return answers


def _row(weights: dict[str, float]) -> Float64[np.ndarray, " properties"]:
    return np.array([weights.get(one.name, 0.0) for one in PROPERTIES])
