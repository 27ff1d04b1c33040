"""Fits what a beginning promises: ridge regression of final basis rewards, in buckets of the beginning's length."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from app.errors import InvalidInput
from app.training.values.table import TRAINING, VALIDATION, StateTable

BOUNDS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
PENALTIES = (30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
"""Of squared weights, with every feature in units of its standard deviation."""
_FEWEST_TRAINING, _FEWEST_VALIDATION = 200, 20
_CHUNK = 65_536


@dataclass(frozen=True)
class PrefixHeads:
    """The part V of ``ValueHeads``, with the ``penalties`` (buckets,) that validation prompts chose."""

    bounds: Int64[np.ndarray, " buckets"]
    weight: Float32[np.ndarray, "buckets basis twice_hidden"]
    offset: Float32[np.ndarray, "buckets basis"]
    penalties: tuple[float, ...]

    def buckets(self, counts: Int64[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
        """The bucket of beginnings of so many tokens, at least 1 each."""
        return np.searchsorted(self.bounds, counts, side="right") - 1

    def predict(
        self,
        states: Float32[np.ndarray, "rows hidden"],
        means: Float32[np.ndarray, "rows hidden"],
        counts: Int64[np.ndarray, " rows"],
    ) -> Float64[np.ndarray, "rows basis"]:
        """V of beginnings, from the states of their last tokens and the means of all."""
        found = np.zeros((len(states), self.weight.shape[1]))
        of, hidden = self.buckets(counts), states.shape[1]
        for bucket in np.unique(of):
            rows, weight = np.flatnonzero(of == bucket), self.weight[bucket]
            found[rows] = states[rows] @ weight[:, :hidden].T + means[rows] @ weight[:, hidden:].T + self.offset[bucket]
        return found

    def of_table(self, table: StateTable, rows: Int64[np.ndarray, " rows"]) -> Float64[np.ndarray, "rows basis"]:
        """V of the table's states, a part of them at a time."""
        parts = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
        found = [
            self.predict(table.states[k].astype(np.float32), table.means[k].astype(np.float32), table.counts[k])
            for k in parts
        ]
        return np.concatenate(found) if found else np.zeros((0, self.weight.shape[1]))


def fit_prefix_heads(table: StateTable, *, device: str = "cpu") -> PrefixHeads:
    """Fit V on the training prompts; each bucket's penalty is the one that predicts the validation prompts best.

    A length that too few rollouts reach belongs to the bucket before it.

    Raises:
        InvalidInput: If there are too few rollouts altogether.

    Source:
        Mudgal et al., "Controlled Decoding from Language Models" (2024), sec. 3.1, CD-FUDGE: the final reward as the
        target at every prefix.
    """
    training, validation = table.rows(TRAINING), table.rows(VALIDATION)
    bounds = [bound for bound in BOUNDS if bound == 1 or _enough(table.counts, training, validation, bound)]
    if not _enough(table.counts, training, validation, 1):
        raise InvalidInput(
            f"{training.sum()} states of training prompts and {validation.sum()} of validation prompts are too few for "
            "value heads; give more prompts or more responses to each."
        )
    fitted = []
    for number, bound in enumerate(bounds):
        beyond = bounds[number + 1] if number + 1 < len(bounds) else np.inf
        inside = (table.counts >= bound) & (table.counts < beyond)
        fitted.append(
            _fit_bucket(table, np.flatnonzero(inside & training), np.flatnonzero(inside & validation), device)
        )
    weights, offsets, penalties = zip(*fitted, strict=True)
    return PrefixHeads(np.array(bounds, np.int64), np.stack(weights), np.stack(offsets), tuple(penalties))


def _enough(counts: np.ndarray, training: np.ndarray, validation: np.ndarray, bound: int) -> bool:
    beyond = counts >= bound
    return bool((beyond & training).sum() >= _FEWEST_TRAINING and (beyond & validation).sum() >= _FEWEST_VALIDATION)


def _fit_bucket(
    table: StateTable, training: np.ndarray, validation: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights (K, 2 hidden), offsets (K,) and the penalty."""
    inputs, targets = _inputs(table, training, device), _targets(table, training, device)
    centre, spread = inputs.mean(0), inputs.std(0) + 1e-6
    middle = targets.mean(0)
    inputs = inputs.sub_(centre).div_(spread)
    gram, moment = (inputs.T @ inputs).double(), (inputs.T @ (targets - middle)).double()
    held, wanted = (_inputs(table, validation, device) - centre) / spread, _targets(table, validation, device)
    found = []
    for penalty in PENALTIES:
        weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram), device=device, dtype=gram.dtype), moment)
        error = float((held @ weight.float() + middle - wanted).square().mean())
        found.append((error, penalty, weight.float()))
    _, penalty, weight = min(found, key=lambda one: one[0])
    weight = weight / spread[:, None]
    return weight.T.cpu().numpy(), (middle - centre @ weight).cpu().numpy(), penalty


def _inputs(table: StateTable, rows: np.ndarray, device: str) -> Tensor:
    both = np.concatenate([table.states[rows], table.means[rows]], axis=1)
    return torch.from_numpy(both).to(device).float()


def _targets(table: StateTable, rows: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(table.finals[table.of[rows]]).to(device).float()
