"""Simulated people who weigh ten reward models, as in PersonalLLM: the world that LoRe was measured on.

Ten correlated reward directions in an embedding of 256 dimensions; a person's weights are a Dirichlet draw, and what
they compare of each prompt is the best with the worst of eight responses, without noise. Held-out people show a few
given pairs, on training prompts, and are predicted on prompts nobody has seen. Modelled on the protocol of LoRe
(arXiv 2504.14439, section 5.1), with random embeddings in place of a language model's.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from app.training.evaluation.problem import Pairs, Problem, TestPerson

REWARDS, DIMENSIONS, RESPONSES = 10, 256, 8
CORRELATION = 0.12
"""Between two reward directions: everyone's common direction then predicts best against worst as published."""
TRAINING_PROMPTS, TEST_PROMPTS = 2000, 500
SEEN, PAIRS_EACH, UNSEEN = 500, 45, 200
COUNTS = (0, 1, 3, 5, 9)


@dataclass(frozen=True)
class PersonalLlmWorld:
    """One cell of the table: ``concentration`` of the Dirichlet (small: people want one thing), and rank K."""

    concentration: float
    rank: int

    @property
    def name(self) -> str:
        """As tables and files name the cell."""
        return f"alpha={self.concentration:g},K={self.rank}"


CELLS = tuple(PersonalLlmWorld(concentration, rank) for concentration in (0.001, 0.1) for rank in (5, 10))


def personalllm_problem(world: PersonalLlmWorld, seed: int) -> Problem:
    """Draw responses, people and what they prefer; cells of one seed and concentration share them."""
    rng = np.random.default_rng(seed)
    prompts = TRAINING_PROMPTS + TEST_PROMPTS
    features = rng.standard_normal((prompts * RESPONSES, DIMENSIONS), dtype=np.float32)
    rewards = (features @ directions(rng).astype(np.float32).T).reshape(prompts, RESPONSES, REWARDS)
    tastes = rng.dirichlet(np.full(REWARDS, world.concentration), SEEN + UNSEEN)
    chosen = [rng.choice(TRAINING_PROMPTS, PAIRS_EACH, replace=False) for _ in range(SEEN)]
    seen = [extremes(rewards, each, taste, rng) for each, taste in zip(chosen, tastes[:SEEN], strict=True)]
    shown = [rng.choice(TRAINING_PROMPTS, max(COUNTS), replace=False) for _ in range(UNSEEN)]
    test = np.arange(TRAINING_PROMPTS, prompts)
    people = tuple(
        TestPerson(
            f"personalllm:{seed}:{number}", extremes(rewards, shots, taste, rng), extremes(rewards, test, taste, rng)
        )
        for number, (shots, taste) in enumerate(zip(shown, tastes[SEEN:], strict=True))
    )
    return Problem(
        name=world.name,
        features=features,
        rows=len(features),
        training=Pairs(
            *(np.concatenate([getattr(part, side) for part in seen]) for side in ("first", "second", "labels"))
        ),
        training_people=np.repeat(np.arange(SEEN), PAIRS_EACH),
        people=people,
        rank=world.rank,
        counts=COUNTS,
        active=False,
    )


def directions(rng: np.random.Generator) -> Float64[np.ndarray, "rewards dimensions"]:
    """Reward directions of unit length with ``CORRELATION`` between any two, up to chance."""
    common = rng.standard_normal(DIMENSIONS)
    own = rng.standard_normal((REWARDS, DIMENSIONS))
    mixed = np.sqrt(CORRELATION) * common + np.sqrt(1.0 - CORRELATION) * own
    return np.asarray(mixed / np.linalg.norm(mixed, axis=1, keepdims=True), dtype=np.float64)


def extremes(
    rewards: Float32[np.ndarray, "prompts responses rewards"],
    prompts: np.ndarray,
    taste: Float64[np.ndarray, " rewards"],
    rng: np.random.Generator,
) -> Pairs:
    """A person's best response to each prompt against their worst, on either side with equal chance."""
    values = rewards[prompts] @ taste
    best, worst = (prompts * RESPONSES + pick for pick in (values.argmax(axis=1), values.argmin(axis=1)))
    first = rng.random(len(prompts)) < 0.5
    return Pairs(np.where(first, best, worst), np.where(first, worst, best), first.astype(np.float64))
