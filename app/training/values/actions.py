"""Fits what a next token adds: low-rank heads on differences of V between two tokens in the same state.

Only such differences matter to guidance, since whatever all tokens of a state have in common leaves their distribution
as it is; and given V they are known without noise, other than what a rollout happens to come to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from app.training.values.prefixes import PrefixHeads
from app.training.values.table import TRAINING, StateTable

_CHUNK = 65_536


@dataclass(frozen=True)
class ActionSettings:
    """How the heads are fitted; ``rare``, the penalty on a token's squared vector, keeps rare tokens near zero."""

    rank: int = 32
    epochs: int = 8
    batch: int = 4096
    rate: float = 1e-2
    rare: float = 1e-5
    weights: float = 1e-6


@dataclass(frozen=True)
class ActionHeads:
    """The part Q - V of ``ValueHeads``, on the device where it was fitted."""

    states: Float32[Tensor, "basis rank hidden"]
    offset: Float32[Tensor, "basis rank"]
    tokens: Float32[Tensor, "vocabulary rank"]

    def differences(
        self, states: Float32[Tensor, "rows hidden"], first: Tensor, second: Tensor
    ) -> Float32[Tensor, "rows basis"]:
        """How much more the ``first`` token (rows,) adds than the ``second``."""
        size, rank, _ = self.states.shape
        reads = (states @ self.states.flatten(0, 1).T).view(-1, size, rank) + self.offset
        return (reads @ (self.tokens[first] - self.tokens[second])[:, :, None])[:, :, 0]


def action_targets(table: StateTable, heads: PrefixHeads, choices: np.ndarray) -> Float64[np.ndarray, "choices basis"]:
    """V after the token chosen minus V after the other; an end mark is worth the finished response's rewards.

    Source:
        Han et al., "Value Augmented Sampling for Language Model Alignment and Personalization" (2024), sec. 3: the
        advantage of a token under the base model's value.
    """
    parts = [choices[start : start + _CHUNK] for start in range(0, len(choices), _CHUNK)]
    return np.concatenate([_targets(table, heads, part) for part in parts])


def _targets(table: StateTable, heads: PrefixHeads, choices: np.ndarray) -> Float64[np.ndarray, "choices basis"]:
    at = table.at[choices]
    counts, ends = table.counts[at] + 1, table.ends[choices]
    chosen = heads.of_table(table, np.where(ends, at, at + 1))
    chosen[ends] = table.finals[table.of[at[ends]]]
    other = table.other_states[choices].astype(np.float32)
    means = table.means[at].astype(np.float32)
    means += (other - means) / counts[:, None].astype(np.float32)
    differences: Float64[np.ndarray, "choices basis"] = chosen - heads.predict(other, means, counts)
    return differences


def fit_action_heads(
    table: StateTable,
    heads: PrefixHeads,
    vocabulary: int,
    settings: ActionSettings,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda *_: None,
) -> ActionHeads:
    """Fit Q - V on the training prompts by stochastic descent (Adam, one cycle of its rate).

    Args:
        table: States and choices.
        heads: V, fitted on the same prompts.
        vocabulary: Number of the network's outputs; tokens never seen get the vector 0.
        settings: Rank, penalties and steps.
        seed: Draws the start and the order.
        device: Where it computes, as torch names it.
        progress: Told the epochs done and how many there are.
    """
    choices = table.choices(TRAINING)
    targets = torch.from_numpy(action_targets(table, heads, choices)).float()
    sample = table.states[table.at[choices[:: max(1, len(choices) // 20_000)]]].astype(np.float32)
    centre, spread = (torch.from_numpy(one).to(device) for one in (sample.mean(0), sample.std(0) + 1e-6))
    generator = torch.Generator().manual_seed(seed)
    size, hidden = targets.shape[1], table.states.shape[1]
    start = torch.randn(size, settings.rank, hidden, generator=generator) * (0.36 / hidden**0.5)
    parameters = [
        one.to(device).requires_grad_()
        for one in (start, torch.zeros(size, settings.rank), torch.zeros(vocabulary, settings.rank))
    ]
    fitted = ActionHeads(*parameters)
    batch = min(settings.batch, len(choices))
    each = max(1, len(choices) // batch)
    optimizer = torch.optim.Adam(parameters, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.rate, settings.epochs * each, pct_start=0.1)
    for epoch in range(settings.epochs):
        order = torch.randperm(len(choices), generator=generator).numpy()
        for step in range(each):
            drawn = order[step * batch : (step + 1) * batch]
            loss = _loss(fitted, table, choices[drawn], targets[drawn].to(device), centre, spread)
            loss = loss + settings.weights * fitted.states.square().sum()
            loss = loss + settings.rare * fitted.tokens.square().sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        progress(epoch + 1, settings.epochs)
    return _in_plain_units(fitted, centre, spread)


def _loss(
    heads: ActionHeads, table: StateTable, choices: np.ndarray, targets: Tensor, centre: Tensor, spread: Tensor
) -> Tensor:
    states = torch.from_numpy(table.states[table.at[choices]]).to(centre.device).float()
    first, second = (torch.from_numpy(one[choices]).to(centre.device) for one in (table.tokens, table.others))
    return (heads.differences((states - centre) / spread, first, second) - targets).square().mean()


@torch.no_grad()
def _in_plain_units(heads: ActionHeads, centre: Tensor, spread: Tensor) -> ActionHeads:
    """The same heads for states as they are, not as standard scores."""
    states = heads.states / spread
    return ActionHeads(states, heads.offset - states @ centre, heads.tokens.detach())
