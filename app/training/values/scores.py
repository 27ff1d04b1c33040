"""How good value heads are on prompts that they did not learn from, and what their predictions still miss."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from app.training.values.actions import ActionHeads, action_targets
from app.training.values.prefixes import PrefixHeads
from app.training.values.table import TEST, VALIDATION, StateTable

DECILES = 10
_CHUNK = 65_536


@dataclass(frozen=True)
class BucketScore:
    """V at one length, all basis rewards together, each in units of its variance.

    ``explained`` is the share of the final rewards' variance that V predicts, ``naive`` the share that the running mean
    does (None where rewards are no mean over states), ``slope`` that of final on predicted, and ``miscalibration`` the
    mean distance between predicted and final in tenths by prediction, in standard deviations.
    """

    fewest_tokens: int
    states: int
    explained: float
    naive: float | None
    slope: float
    miscalibration: float


@dataclass(frozen=True)
class ActionScore:
    """Differences between two tokens in states after ``fewest_tokens`` or more: spread, share explained, slope."""

    fewest_tokens: int
    choices: int
    spread: float
    explained: float
    slope: float


def score_prefixes(
    table: StateTable,
    heads: PrefixHeads,
    naive: tuple[np.ndarray, np.ndarray] | None,
    *,
    part: int = TEST,
) -> list[BucketScore]:
    """One score a bucket; ``naive`` are heads (K, hidden) and offset (K,) that make rewards of running means."""
    rows = np.flatnonzero(table.rows(part))
    predicted, of = heads.of_table(table, rows), heads.buckets(table.counts[rows])
    scores = []
    for bucket, bound in enumerate(heads.bounds):
        inside = np.flatnonzero(of == bucket)
        if len(inside) < 2 * DECILES:
            continue
        final = table.finals[table.of[rows[inside]]]
        plain = None if naive is None else table.means[rows[inside]].astype(np.float64) @ naive[0].T + naive[1]
        explained, slope = _explained(final, predicted[inside]), _slope(final, predicted[inside])
        beside = None if plain is None else _explained(final, plain)
        off = _miscalibration(final, predicted[inside])
        scores.append(BucketScore(int(bound), len(inside), explained, beside, slope, off))
    return scores


def score_actions(
    table: StateTable,
    prefixes: PrefixHeads,
    heads: ActionHeads,
    *,
    part: int | None = TEST,
    bounds: Sequence[int] = (0, 1, 4, 16, 48),
) -> list[ActionScore]:
    """How well differences of V between two tokens are predicted, by the beginning's length; the last is of all."""
    choices = table.choices(part)
    wanted, found = action_targets(table, prefixes, choices), _differences(table, heads, choices)
    counts = table.counts[table.at[choices]]
    edges = [(low, high) for low, high in zip(bounds, (*bounds[1:], np.inf), strict=True)]
    scores = []
    for low, high in [*edges, (0, np.inf)]:
        inside = (counts >= low) & (counts < high)
        if inside.sum() >= 2:
            one, other = wanted[inside], found[inside]
            explained = 1 - float(np.square(one - other).sum() / np.square(one).sum())
            slope = float((one * other).sum() / max(np.square(other).sum(), 1e-12))
            scores.append(ActionScore(int(low), int(inside.sum()), float(np.sqrt((one**2).mean())), explained, slope))
    return scores


def prefix_errors(table: StateTable, heads: PrefixHeads) -> Float64[np.ndarray, "buckets basis basis"]:
    """Covariances of what V misses, between responses to one prompt at one length, on prompts not learned from.

    What all responses to a prompt miss alike does not matter to which of them is best, and is left out.
    """
    rows = np.flatnonzero(table.rows(VALIDATION) | table.rows(TEST))
    missed = table.finals[table.of[rows]] - heads.of_table(table, rows)
    groups = table.prompts[table.of[rows]] * (table.counts.max() + 1) + table.counts[rows]
    _, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), missed.shape[1]))
    np.add.at(sums, group, missed)
    missed -= (sums / sizes[:, None])[group]
    missed *= np.sqrt(sizes / np.maximum(sizes - 1, 1))[group][:, None]
    of = heads.buckets(table.counts[rows])
    several = sizes[group] > 1
    return np.stack([_covariance(missed[several & (of == bucket)]) for bucket in range(len(heads.bounds))])


def _covariance(missed: np.ndarray) -> np.ndarray:
    found: np.ndarray = missed.T @ missed / max(1, len(missed))
    return found


@torch.no_grad()
def _differences(table: StateTable, heads: ActionHeads, choices: np.ndarray) -> np.ndarray:
    found = []
    for start in range(0, len(choices), _CHUNK):
        part, device = choices[start : start + _CHUNK], heads.tokens.device
        states = torch.from_numpy(table.states[table.at[part]]).to(device).float()
        first, second = (torch.from_numpy(one[part]).to(device) for one in (table.tokens, table.others))
        found.append(heads.differences(states, first, second).double().cpu().numpy())
    return np.concatenate(found)


def _explained(final: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.mean(1 - np.square(final - predicted).mean(0) / np.maximum(final.var(0), 1e-12)))


def _slope(final: np.ndarray, predicted: np.ndarray) -> float:
    centred = predicted - predicted.mean(0)
    return float(np.mean((centred * final).mean(0) / np.maximum(centred.var(0), 1e-12)))


def _miscalibration(final: np.ndarray, predicted: np.ndarray) -> float:
    distances = []
    for one, other in zip(final.T, predicted.T, strict=True):
        tenths = np.array_split(np.argsort(other), DECILES)
        gaps = [abs(one[tenth].mean() - other[tenth].mean()) for tenth in tenths]
        distances.append(np.mean(gaps) / max(one.std(), 1e-6))
    return float(np.mean(distances))
