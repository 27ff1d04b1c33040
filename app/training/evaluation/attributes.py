"""Two simulated worlds of people with signed traits: everyone different, or different around a common taste.

In the first, 84 people each want two of seven traits of text, in either direction, so that the population wants
nothing; in the second everyone also likes an eighth trait. Texts are seen through a noisy, saturating embedding, and
each answer is the mean of two, one for each order of the sides. Modelled on the protocol of PReF (arXiv 2503.06358,
section 5.1), with simulated answers in place of a language model's.
"""

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from jaxtyping import Float64

from app.preferences.logistic import sigmoid
from app.training.evaluation.problem import Pairs, Problem, TestPerson

TRAITS = 7
DIMENSIONS = 64
GAIN = 0.5
"""How far the embedding saturates."""
NOISE = 0.1
"""Standard deviation of the embedding's noise: 80 common pairs then fix the basis about as well as published."""
SHARPNESS = 3.0
"""Log-odds of a choice per unit of trait: the true taste then predicts decided choices with an AUC above .99."""
TRAINING_PEOPLE = 67
TRAINING_PAIRS, POOL_PAIRS, TEST_PAIRS = 80, 300, 400
COUNTS = (0, 1, 3, 5, 10, 15, 20, 40)


@dataclass(frozen=True)
class AttributesWorld:
    """What ``attributes`` and ``consensus`` differ in."""

    name: str
    rank: int
    consensus: float
    """Weight of the trait that everyone likes, a wanted trait having weight one; zero for none."""


ATTRIBUTES = AttributesWorld("attributes", rank=8, consensus=0.0)
CONSENSUS = AttributesWorld("consensus", rank=9, consensus=1.5)


def attributes_problem(world: AttributesWorld, seed: int) -> Problem:
    """Draw texts, people and answers."""
    rng = np.random.default_rng(seed)
    traits = rng.standard_normal((2 * (TRAINING_PAIRS + POOL_PAIRS + TEST_PAIRS), TRAITS + 1))
    features = embedded(traits, rng)
    tastes = rng.permutation(all_tastes(world.consensus))
    pairs = np.arange(len(traits)).reshape(-1, 2)
    training, pool, test = np.split(pairs, [TRAINING_PAIRS, TRAINING_PAIRS + POOL_PAIRS])
    seen, held_out = tastes[:TRAINING_PEOPLE], tastes[TRAINING_PEOPLE:]
    answered = [answers(traits, training, taste, rng) for taste in seen]
    people = tuple(
        TestPerson(
            f"{world.name}:{seed}:{number}", answers(traits, pool, taste, rng), answers(traits, test, taste, rng)
        )
        for number, taste in enumerate(held_out)
    )
    return Problem(
        name=world.name,
        features=features,
        rows=len(features),
        training=joined(answered),
        training_people=np.repeat(np.arange(len(seen)), TRAINING_PAIRS),
        people=people,
        rank=world.rank,
        counts=COUNTS,
    )


def embedded(
    traits: Float64[np.ndarray, "rows traits"], rng: np.random.Generator
) -> Float64[np.ndarray, "rows dimensions"]:
    """Features of texts: traits, turned together with everything else in which texts differ, saturated, with noise."""
    others = rng.standard_normal((len(traits), DIMENSIONS - traits.shape[1]))
    factors = np.hstack([traits, others])
    turn = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIMENSIONS)))[0]
    return np.asarray(np.tanh(GAIN * factors @ turn) + NOISE * rng.standard_normal(factors.shape), dtype=np.float64)


def all_tastes(consensus: float) -> Float64[np.ndarray, "people traits"]:
    """Every choice of two different traits and of their signs, with the weight of the trait that all like last."""
    tastes = []
    for wanted in combinations(range(TRAITS), 2):
        for signs in product((-1.0, 1.0), repeat=2):
            taste = np.zeros(TRAITS + 1)
            taste[list(wanted)], taste[TRAITS] = signs, consensus
            tastes.append(taste)
    return np.array(tastes)


def answers(
    traits: Float64[np.ndarray, "rows traits"],
    pairs: np.ndarray,
    taste: Float64[np.ndarray, " traits"],
    rng: np.random.Generator,
) -> Pairs:
    """Mean of two answers a pair, each drawn from the logistic model: 1, 0, or 0.5 where they disagree."""
    margins = SHARPNESS * (traits[pairs[:, 0]] - traits[pairs[:, 1]]) @ taste
    labels = (rng.random((2, len(pairs))) < sigmoid(margins)).mean(axis=0)
    return Pairs(pairs[:, 0], pairs[:, 1], labels)


def joined(parts: list[Pairs]) -> Pairs:
    """Several people's pairs, one after the other."""
    return Pairs(*(np.concatenate([getattr(part, side) for part in parts]) for side in ("first", "second", "labels")))
