"""What people have in common, and the directions in which they differ: where every method starts from."""

import torch
from torch import Tensor
from torch.nn import functional

from app.training.methods.data import QUIET, Run
from app.training.methods.design import Design
from app.training.methods.minimise import minimise

SPREAD = 3.0
"""Prior standard deviation of the population's reward over rows, in log-odds."""
OVERSAMPLING = 8
PASSES = 5


def population_direction(
    design: Design, target: Tensor, *, spread: float = SPREAD, iterations: int = 40, run: Run = QUIET
) -> tuple[Tensor, float]:
    """Direction (H,) of the one reward that fits everyone's comparisons best, and its loss in nats.

    ``spread`` is the prior standard deviation of the reward over rows, in log-odds.
    """
    direction = torch.zeros(1, design.hidden, device=target.device, requires_grad=True)
    penalty = design.variance / spread**2

    def objective() -> Tensor:
        logits = design.rewards(direction)[:, 0]
        fit = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return fit + 0.5 * penalty * direction.square().sum()

    loss = minimise(objective, [direction], iterations=iterations, run=run)
    return direction.detach()[0], loss


def leading_directions(
    design: Design, person: Tensor, target: Tensor, people: int, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormal heads (K, H), mean (K,) and own parts (P, K): the population, then people's leading residuals.

    People's scores S (P, H), the gradients of their log-likelihoods at the population's reward, are decomposed by
    subspace iteration without being formed: Q <- S^T (S Q).
    """
    direction, _ = population_direction(design, target)
    residuals = target - torch.sigmoid(design.rewards(direction[None])[:, 0])
    loads = torch.randn(people, min(rank + OVERSAMPLING, people, design.hidden)).to(target.device)
    for _ in range(PASSES):
        weighted = residuals[:, None] * loads.index_select(0, person)
        right = torch.linalg.qr(design.collect(weighted).T).Q
        loads = _scores(design, person, residuals, right.T, people)
    leading = torch.linalg.svd(loads, full_matrices=False).Vh @ right.T
    common = direction / direction.norm().clamp(min=1e-6)
    heads = torch.linalg.qr(torch.cat([common[None], leading[: rank - 1]]).T).Q.T.clone()
    counts = torch.bincount(person, minlength=people).clamp(min=1)[:, None]
    own = _scores(design, person, residuals, heads, people) / (1.0 + 0.25 * counts)
    return heads, heads @ direction, own


def _scores(design: Design, person: Tensor, residuals: Tensor, heads: Tensor, people: int) -> Tensor:
    """Each person's summed residual times difference, along ``heads`` (C, H): (P, C)."""
    values = residuals[:, None] * design.rewards(heads)
    return values.new_zeros(people, len(heads)).index_add(0, person, values)
