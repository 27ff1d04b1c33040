"""Differences of whitened features as a linear map that is never larger than it needs to be.

Rewards are computed for the distinct rows and then subtracted, or for the differences where there are fewer
comparisons than rows; identity features are only ever indexed. All of it in float32, on a GPU when there is one.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from app.training.methods.data import TrainingData

SHRINKAGE = 3.0
"""Share of the features' mean variance that is added to the variance of every direction before whitening."""
CHUNK = 4096

Index = tuple[Tensor, Tensor]
"""First and second row of each comparison."""


def device() -> torch.device:
    """The GPU when there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Design(Protocol):
    """The map from heads on H whitened features to what they say of N comparisons."""

    @property
    def hidden(self) -> int:
        """H, the length of a whitened input."""

    @property
    def variance(self) -> float:
        """Variance over rows of a reward whose head has independent entries of variance 1."""

    def rewards(self, heads: Tensor) -> Tensor:
        """Differences (N, K) of the basis rewards of first and second, for heads (K, H)."""

    def own_rewards(self, heads: Tensor, person: Tensor) -> Tensor:
        """Difference (N,) of each comparison under the head (P, H) of its person."""

    def collect(self, residuals: Tensor) -> Tensor:
        """The adjoint of ``rewards``: residuals (N, C) to sums (C, H) of residual times whitened difference."""

    def raw(self, heads: Tensor) -> np.ndarray:
        """Heads (K, hidden) on raw features, in float64."""


def design_of(data: TrainingData, shrinkage: float = SHRINKAGE) -> Design:
    """Whiten the features of the compared rows and keep the smaller of rows and differences."""
    index = torch.from_numpy(data.first).to(device()), torch.from_numpy(data.second).to(device())
    if data.features is None:
        return ItemDesign(index, data.rows)
    used = np.unique(np.concatenate([data.first, data.second]))
    centre, whitening, variance = _whitening(data.features[used], shrinkage)
    inputs = torch.from_numpy(((data.features - centre) @ whitening).astype(np.float32)).to(device())
    if len(inputs) <= len(data):
        return FeatureDesign(inputs, index, whitening, variance)
    return FeatureDesign(_subtract(inputs, index), None, whitening, variance)


@dataclass(frozen=True)
class FeatureDesign:
    """``inputs`` are whitened rows (R, H) with the ``index`` of the compared ones, or the differences (N, H)."""

    inputs: Tensor
    index: Index | None
    whitening: np.ndarray
    variance: float

    @property
    def hidden(self) -> int:
        """H."""
        return int(self.inputs.shape[1])

    def rewards(self, heads: Tensor) -> Tensor:
        """As ``Design``."""
        rewards = self.inputs @ heads.T
        return rewards if self.index is None else _subtract(rewards, self.index)

    def own_rewards(self, heads: Tensor, person: Tensor) -> Tensor:
        """As ``Design``, in chunks of comparisons."""
        margins: Tensor = _OwnRewards.apply(heads, self, person)  # type: ignore[no-untyped-call]
        return margins

    def differences(self, chunk: slice) -> Tensor:
        """Whitened differences (n, H) of some comparisons."""
        if self.index is None:
            return self.inputs[chunk]
        return _subtract(self.inputs, (self.index[0][chunk], self.index[1][chunk]))

    def collect(self, residuals: Tensor) -> Tensor:
        """As ``Design``."""
        if self.index is None:
            return residuals.T @ self.inputs
        return _add_up(residuals, self.index, len(self.inputs)).T @ self.inputs

    def raw(self, heads: Tensor) -> np.ndarray:
        """As ``Design``."""
        return np.asarray(heads.detach().double().cpu().numpy() @ self.whitening.T)


@dataclass(frozen=True)
class ItemDesign:
    """Identity features: every row is an item of its own, and a head has one entry for each."""

    index: Index
    rows: int

    @property
    def hidden(self) -> int:
        """The number of items."""
        return self.rows

    @property
    def variance(self) -> float:
        """As ``Design``: whitening scales each entry of a head by the root of the number of items."""
        return float(self.rows)

    @property
    def scale(self) -> float:
        """What whitening multiplies a head's entries by, so that they count as those on whitened features do."""
        return float(np.sqrt(self.rows))

    def rewards(self, heads: Tensor) -> Tensor:
        """As ``Design``."""
        return self.scale * _subtract(heads.T, self.index)

    def own_rewards(self, heads: Tensor, person: Tensor) -> Tensor:
        """As ``Design``, reading only the entries of the compared items."""
        places = person * self.rows
        return self.scale * _subtract(heads.flatten(), (places + self.index[0], places + self.index[1]))

    def collect(self, residuals: Tensor) -> Tensor:
        """As ``Design``."""
        return self.scale * _add_up(residuals, self.index, self.rows).T

    def raw(self, heads: Tensor) -> np.ndarray:
        """As ``Design``."""
        return np.asarray(self.scale * heads.detach().double().cpu().numpy())


def _subtract(rows: Tensor, index: Index) -> Tensor:
    return rows.index_select(0, index[0]) - rows.index_select(0, index[1])


def _add_up(residuals: Tensor, index: Index, rows: int) -> Tensor:
    totals = residuals.new_zeros(rows, residuals.shape[1]).index_add(0, index[0], residuals)
    return totals.index_add(0, index[1], -residuals)


class _OwnRewards(torch.autograd.Function):
    """``own_rewards`` without keeping a head for every comparison in memory for the backward pass."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, design: FeatureDesign, person: Tensor) -> Tensor:
        """Sums over chunks of comparisons."""
        ctx.design, ctx.person, ctx.shape = design, person, heads.shape
        margins = heads.new_empty(len(person))
        for chunk in _chunks(len(person)):
            margins[chunk] = (design.differences(chunk) * heads.index_select(0, person[chunk])).sum(1)
        return margins

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Each person's sum of gradient times difference."""
        total = gradients[0].new_zeros(ctx.shape)
        for chunk in _chunks(len(ctx.person)):
            total.index_add_(0, ctx.person[chunk], gradients[0][chunk, None] * ctx.design.differences(chunk))
        return total, None, None


def _chunks(count: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


def _whitening(features: np.ndarray, shrinkage: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre (H,), shrunk whitening (H, H) and total variance after it: rare directions are not blown up."""
    features = features.astype(np.float64)
    centre = features.mean(0)
    values, vectors = np.linalg.eigh(np.cov((features - centre).T).reshape(features.shape[1], -1))
    values = np.maximum(values, 0.0)
    shrunk = values + shrinkage * max(float(values.mean()), 1e-12)
    return centre, vectors / np.sqrt(shrunk), max(float((values / shrunk).sum()), 1e-12)
