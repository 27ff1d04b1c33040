"""LoRe's joint fit of basis and people (arXiv 2504.14439, eq. 10, and the defaults of its code), one person at a time.

Written from the formulas: logits are differences times directions times softmax weights over a hundred, both factors
start standard normal, and full-batch Adam at rate 0.5 lowers the sum over people of their mean losses, in a Python loop
over people.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional

ITERATIONS = 1000
RATE = 0.5
TEMPERATURE = 100.0


def fit_lore(
    chosen_minus_rejected: Sequence[Tensor], rank: int, seed: int, *, iterations: int = ITERATIONS
) -> tuple[Tensor, Tensor]:
    """Directions (H, K) and logits (P, K) of the people's simplex weights; one tensor (N_u, H) of rows a person."""
    generator = torch.Generator().manual_seed(seed)
    hidden, people = chosen_minus_rejected[0].shape[1], len(chosen_minus_rejected)
    directions = torch.randn(hidden, rank, generator=generator).requires_grad_()
    logits = torch.randn(people, rank, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([directions, logits], lr=RATE)
    for _ in range(iterations):
        optimizer.zero_grad()
        loss = torch.zeros(())
        for person, rows in enumerate(chosen_minus_rejected):
            margins = rows @ directions @ torch.softmax(logits[person], dim=0) / TEMPERATURE
            loss = loss - functional.logsigmoid(margins).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return directions.detach(), logits.detach()


def lore_margins(
    directions: Tensor, logits: Tensor, rows: Float32[np.ndarray, "rows hidden"], people: Int64[np.ndarray, " rows"]
) -> Float32[np.ndarray, " rows"]:
    """Margins (N,) that a fit gives to comparisons of the people it was fitted on, in log-odds."""
    weights = torch.softmax(logits, dim=1)[torch.from_numpy(people)]
    return np.asarray(((torch.from_numpy(rows) @ directions) * weights).sum(1) / TEMPERATURE)
