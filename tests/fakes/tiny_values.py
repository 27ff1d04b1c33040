"""Random value heads for the tiny model, and heads that know which tokens a reward is made of."""

import numpy as np

from app.rewards.values import ValueHeads

HIDDEN, VOCABULARY = 32, 262


def random_values(size: int = 3, rank: int = 4, seed: int = 3, *, scale: float = 1.0) -> ValueHeads:
    """Heads without meaning but of a sensible size, in two buckets."""
    rng = np.random.default_rng(seed)
    errors = rng.standard_normal((2, size, size))
    return ValueHeads(
        bounds=np.array([1, 9]),
        weight=(0.3 * rng.standard_normal((2, size, 2 * HIDDEN))).astype(np.float32),
        offset=rng.standard_normal((2, size)).astype(np.float32),
        errors=0.05 * errors @ errors.transpose(0, 2, 1),
        action_states=(0.2 * rng.standard_normal((size, rank, HIDDEN))).astype(np.float32),
        action_offset=rng.standard_normal((size, rank)).astype(np.float32),
        action_tokens=(0.5 * rng.standard_normal((VOCABULARY, rank))).astype(np.float32),
        scale=scale,
        frontier=(),
        manifest={},
    )


def indifferent_values(size: int = 3) -> ValueHeads:
    """Heads that promise every text the same and prefer no token."""
    values = random_values(size)
    nothing = {name: np.zeros_like(getattr(values, name)) for name in ("weight", "offset", "errors", "action_tokens")}
    return ValueHeads(**{**values.__dict__, **nothing})


def favouring(tokens: list[int], size: int = 3) -> ValueHeads:
    """Heads whose first reward prefers ``tokens`` by 3 log-odds wherever they come, and whose others prefer nothing."""
    values = indifferent_values(size)
    states = np.zeros_like(values.action_states)
    offset = np.zeros_like(values.action_offset)
    offset[0, 0] = 3.0
    of_tokens = np.zeros_like(values.action_tokens)
    of_tokens[tokens, 0] = 1.0
    changed = {"action_states": states, "action_offset": offset, "action_tokens": of_tokens}
    return ValueHeads(**{**values.__dict__, **changed})
