"""All states of many rollouts in one table, with the rewards of what was written from them. Knows no heads."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float16, Float64, Int64

from app.training.values.rollouts import Rollout

TRAINING, VALIDATION, TEST = 0, 1, 2
_HELD_OUT = 0.1


@dataclass(frozen=True)
class StateTable:
    """N states of R rollouts, prompts' last states included, and the C choices of a next token that were made.

    ``of`` (N,) names the rollout of a state, ``counts`` (N,) the tokens before it; ``means`` (N, hidden) are running
    means of the states, zero where there are no tokens yet. ``finals`` (R, K) are the finished responses' basis rewards
    and ``parts`` (R,) the part of their prompts. Choice c was made in state ``at[c]``: ``tokens[c]``, after which the
    next state of the table follows unless it ``ends`` the response, and not ``others[c]``, which leads to
    ``other_states[c]``.
    """

    of: Int64[np.ndarray, " states"]
    counts: Int64[np.ndarray, " states"]
    states: Float16[np.ndarray, "states hidden"]
    means: Float16[np.ndarray, "states hidden"]
    finals: Float64[np.ndarray, "rollouts basis"]
    prompts: Int64[np.ndarray, " rollouts"]
    parts: Int64[np.ndarray, " rollouts"]
    at: Int64[np.ndarray, " choices"]
    tokens: Int64[np.ndarray, " choices"]
    ends: Bool[np.ndarray, " choices"]
    others: Int64[np.ndarray, " choices"]
    other_states: Float16[np.ndarray, "choices hidden"]

    def rows(self, part: int) -> Bool[np.ndarray, " states"]:
        """States of the part's prompts that follow at least one token."""
        return np.asarray((self.parts[self.of] == part) & (self.counts > 0))

    def choices(self, part: int | None) -> Int64[np.ndarray, " chosen"]:
        """Choices between two different tokens, after the part's prompts or after all."""
        inside = part is None or self.parts[self.of[self.at]] == part
        return np.flatnonzero((self.tokens != self.others) & inside)


def state_table(
    rollouts: Iterable[Rollout], finals: Float64[np.ndarray, "rollouts basis"], end: int, seed: int
) -> StateTable:
    """Arrange rollouts; four fifths of the prompts are for training, a tenth each for validation and test.

    Args:
        rollouts: Consumed once.
        finals: Basis rewards of the finished responses, in the same order.
        end: The token that stands for any end mark.
        seed: Draws the parts.
    """
    known = list(rollouts)
    lengths = np.array([len(one.states) for one in known])
    first = np.cumsum(lengths) - lengths
    of = np.repeat(np.arange(len(known)), lengths)
    choices = np.array([len(one.others) for one in known])
    begins = np.cumsum(choices) - choices
    prompts = np.array([one.prompt for one in known])
    marks = [np.append(one.tokens, [end] * one.ended) for one in known]
    return StateTable(
        of=of,
        counts=np.arange(len(of)) - first[of],
        states=np.concatenate([one.states for one in known]),
        means=np.concatenate([_running_means(one) for one in known]),
        finals=finals,
        prompts=prompts,
        parts=_parts(prompts, np.random.default_rng([seed, 1])),
        at=np.arange(choices.sum()) + np.repeat(first - begins, choices),
        tokens=np.concatenate(marks).astype(np.int64),
        ends=np.concatenate([np.arange(len(one.others)) == len(one.tokens) for one in known]),
        others=np.concatenate([one.others for one in known]).astype(np.int64),
        other_states=np.concatenate([one.other_states for one in known]),
    )


def _parts(prompts: np.ndarray, rng: np.random.Generator) -> Int64[np.ndarray, " rollouts"]:
    """The part of each rollout's prompt; validation and test have one prompt at least."""
    distinct, position = np.unique(prompts, return_inverse=True)
    held = max(1, round(_HELD_OUT * len(distinct)))
    parts = np.full(len(distinct), TRAINING)
    order = rng.permutation(len(distinct))
    parts[order[:held]] = VALIDATION
    parts[order[held : 2 * held]] = TEST
    return np.asarray(parts[position])


def _running_means(rollout: Rollout) -> Float16[np.ndarray, "states hidden"]:
    sums = np.cumsum(rollout.states[1:], axis=0, dtype=np.float64)
    means = sums / np.arange(1, len(sums) + 1)[:, None]
    return np.vstack([np.zeros_like(rollout.states[:1]), means.astype(np.float16)])
