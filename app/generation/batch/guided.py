"""Value heads at work while texts are written: predictions for beginnings, and tilts of next-token distributions.

A request's coefficients are folded into the heads once, after which a tilt costs one small product a row and one with
the tokens. Knows neither requests nor texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from app.entities import Steering
from app.errors import ArtifactIncompatible
from app.generation.batch.rows import ROW_MULTIPLE
from app.generation.batch.sampling import tilted
from app.rewards.language import LanguageModel
from app.rewards.linear import Linear
from app.rewards.values import ValueHeads


@dataclass(frozen=True, eq=False)
class Tilt:
    """One request's coefficients folded into the action heads: ``states`` (rank, hidden) and ``offset`` (rank,)."""

    states: Tensor
    offset: Tensor


class Guide:
    """Value heads on the model's device."""

    def __init__(self, model: LanguageModel, values: ValueHeads) -> None:
        """Copy ``values`` to where ``model`` lives.

        Raises:
            ArtifactIncompatible: If they were made for another hidden size or vocabulary.
        """
        shape = model.network.shape
        found = values.action_states.shape[2], values.action_tokens.shape[0]
        if found != (shape.hidden, shape.vocabulary):
            raise ArtifactIncompatible(
                f"The value heads read {found[0]} hidden values and know {found[1]} tokens, the model has "
                f"{shape.hidden} and {shape.vocabulary}; fit them for this model with 'attune basis values'."
            )
        self.size, self._scale = len(values.action_states), values.scale
        self._bounds, self._errors = values.bounds, values.errors.astype(np.float64)
        self._weight, self._offset = self._on(model, values.weight), self._on(model, values.offset)
        self._action_states = self._on(model, values.action_states)
        self._action_offset = self._on(model, values.action_offset)
        self._action_tokens = Linear(self._on(model, values.action_tokens))

    @torch.inference_mode()
    def predict(
        self,
        states: Float[Tensor, "rows hidden"],
        means: Float[Tensor, "rows hidden"],
        counts: Sequence[int],
    ) -> Float64[np.ndarray, "rows basis"]:
        """Basis rewards that beginnings promise for their finished texts, offset included.

        Args:
            states: Last hidden states of their last tokens.
            means: Means of the states of all their tokens.
            counts: How many tokens they have, at least 1 each.
        """
        buckets = torch.tensor(self._buckets(counts), device=self._weight.device)
        both = torch.cat([states.float(), means], dim=1)[:, :, None]
        found = torch.bmm(self._weight[buckets], both)[:, :, 0] + self._offset[buckets]
        promised: np.ndarray = found.double().cpu().numpy()
        return promised

    def variances(
        self, coefficients: Float64[np.ndarray, " basis"], counts: Sequence[int]
    ) -> Float64[np.ndarray, " rows"]:
        """Variances of the predictions' errors under one person's coefficients."""
        of_bucket = np.einsum("j,bjk,k->b", coefficients, self._errors, coefficients)
        found: np.ndarray = np.maximum(of_bucket, 0.0)[self._buckets(counts)]
        return found

    def fold(self, steering: Steering) -> Tilt:
        """The tilt of a request: strength times scale times the coefficients' mix of the action heads."""
        weights = torch.tensor(steering.coefficients, dtype=torch.float32, device=self._weight.device)
        weights = weights * (steering.strength * self._scale)
        return Tilt(torch.tensordot(weights, self._action_states, 1), weights @ self._action_offset)

    def promise(
        self, states: Float[Tensor, "rows hidden"], tilts: Float[Tensor, "rows rank hidden"], offsets: Tensor
    ) -> Float[Tensor, "rows vocabulary"]:
        """What each next token adds to a row's log-probabilities, by the row's own tilt."""
        return self._action_tokens(torch.bmm(tilts, states.float()[:, :, None])[:, :, 0] + offsets)

    def _buckets(self, counts: Sequence[int]) -> list[int]:
        found = np.searchsorted(self._bounds, counts, side="right") - 1
        return [max(0, int(one)) for one in found]

    @staticmethod
    def _on(model: LanguageModel, array: np.ndarray) -> Tensor:
        return torch.tensor(np.asarray(array, np.float32), device=model.device)


class RowTilts:
    """The tilts of the rows of one running batch; rows without one keep their logits bit for bit."""

    def __init__(self, guide: Guide, tilts: Sequence[Tilt | None], padded: int) -> None:
        """Stack the tilts once, for all steps until the batch changes."""
        guided = [(row, tilt) for row, tilt in enumerate(tilts) if tilt is not None]
        spare = guided[:1] * (-len(guided) % ROW_MULTIPLE)
        device = guided[0][1].states.device
        self._guide = guide
        self._rows = torch.tensor([row for row, _ in (*guided, *spare)], device=device)
        self._all = [row for row, _ in guided] == list(range(len(tilts))) and len(self._rows) == padded
        self._states = torch.stack([tilt.states for _, tilt in (*guided, *spare)])
        self._offsets = torch.stack([tilt.offset for _, tilt in (*guided, *spare)])

    def apply(
        self, logits: Float[Tensor, "rows vocabulary"], states: Float[Tensor, "rows hidden"]
    ) -> Float[Tensor, "rows vocabulary"]:
        """The logits with the guided rows' tilts added, among plausible tokens only; may change its argument."""
        if self._all:
            return tilted(logits, self._guide.promise(states, self._states, self._offsets))
        promised = self._guide.promise(states[self._rows], self._states, self._offsets)
        logits[self._rows] = tilted(logits[self._rows], promised)
        return logits
