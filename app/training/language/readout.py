"""Training aid: predicts a response's measured properties linearly from its mean hidden state."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from app.training.language.corpus import Conversation
from app.training.language.packing import PackedRows
from app.training.properties import PROPERTIES, PropertyScale

_END, _ROLES = 2, (1, 3, 4, 5)
_ASSISTANT = 4


class PropertyReadout(nn.Module):
    """A linear layer (hidden → properties) with the standardised targets of the current documents."""

    def __init__(self, hidden: int, training: Sequence[Conversation]) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, len(PROPERTIES))
        nn.init.zeros_(self.linear.weight)
        replies = [one.turns[-1][1] for one in training if len(one.turns) == 2]
        self._scale = PropertyScale.of(replies[:: max(1, len(replies) // 4000)] or [""])
        self._targets = np.zeros((0, len(PROPERTIES)), dtype=np.float32)

    def aim_at(self, documents: Sequence[Conversation]) -> None:
        """Compute the targets of these documents; only single exchanges have one."""
        single = np.array([len(one.turns) == 2 for one in documents])
        values = self._scale.standardise([one.turns[-1][1] for one in documents])
        self._targets = np.where(single[:, None], values, np.nan).astype(np.float32)

    def loss(self, states: Tensor, rows: PackedRows) -> Tensor:
        """Mean squared error, in squared standard deviations, over the documents of a batch.

        ``states`` (B, T, hidden) belong to the first T of the rows' T+1 positions.
        """
        tokens, documents = rows.tokens[:, :-1], rows.documents[:, :-1]
        inside = response_positions(tokens) & (documents >= 0)
        inside &= ~np.isnan(self._targets[:, 0])[documents]
        numbers, local = np.unique(documents[inside], return_inverse=True)
        where = torch.from_numpy(np.flatnonzero(inside)).to(states.device)
        index = torch.from_numpy(local).to(states.device)
        chosen = states.flatten(0, 1)[where].float()
        sums = torch.zeros(len(numbers), chosen.shape[1], device=states.device).index_add(0, index, chosen)
        counts = torch.bincount(index, minlength=len(numbers)).clamp(min=1)
        predicted = self.linear(sums / counts[:, None])
        return functional.mse_loss(predicted, torch.from_numpy(self._targets[numbers]).to(states.device))


def response_positions(tokens: np.ndarray) -> np.ndarray:
    """Mask (rows, T) of the tokens that an assistant wrote: after its role mark, before the end mark."""
    marks = np.isin(tokens, (_END, *_ROLES))
    last = np.maximum.accumulate(np.where(marks, np.arange(tokens.shape[1]), 0), axis=1)
    result: np.ndarray = (np.take_along_axis(tokens, last, axis=1) == _ASSISTANT) & ~marks
    return result
