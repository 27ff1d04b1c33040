"""Everyone's reward as a mixture of a few: weights on the simplex, learned together with the corner rewards.

LoRe and the cluster user model of P-RLHF are the same fit: P(first | u) = sigma(w_u · V d), w_u = softmax(common +
about part + own part), with a share ``alpha`` of the loss for the person and the rest for somebody of whom only what
they wrote is known. The weights' own parts are believed to be Gaussian, so that few answers leave a person near the
population; the fit starts from the extreme people of a signed fit instead of from chance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from app.training.methods.data import QUIET, Run
from app.training.methods.design import Design
from app.training.methods.minimise import minimise
from app.training.methods.population import leading_directions

START_ITERATIONS = 30
OUTWARDS = 1.3
"""Corners start this much farther from the population than the extreme people, whom the signed fit has pulled in."""
FEWEST_START = 0.02


@dataclass(frozen=True)
class SimplexFit:
    """Corner heads (K, H) in whitened features, everyone's weights (P, K) and the loss in nats."""

    heads: Tensor
    weights: Tensor
    loss: float


def fit_simplex(
    design: Design,
    person: Tensor,
    target: Tensor,
    *,
    people: int,
    rank: int,
    spread: float,
    logit_spread: float,
    alpha: float = 1.0,
    about: Tensor | None = None,
    iterations: int = 100,
    run: Run = QUIET,
) -> SimplexFit:
    """Maximum a posteriori of corners and weights by L-BFGS, from extreme people of a short signed fit.

    Args:
        design: Whitened differences.
        person: Who answered each comparison.
        target: 1, 0.5 or 0.
        people: P.
        rank: K, the number of corners.
        spread: Prior standard deviation of a corner's reward over rows, in log-odds.
        logit_spread: Prior standard deviation of people's own logits.
        alpha: Weight of the person's own loss; the rest is that of the generic person.
        about: Features (P, F) of what people wrote, mapped linearly into the logits.
        iterations: At most this many.
        run: Progress and checkpoint of the main fit.
    """
    heads, own = _start(design, person, target, people, rank)
    common = own.mean(0)
    own = own - common
    text = about if about is not None else own.new_zeros(people, 0)
    effect = own.new_zeros(text.shape[1], rank)
    parameters = [tensor.requires_grad_() for tensor in (heads, common, own, effect)]
    head_penalty, logit_penalty = design.variance / spread**2, 1.0 / logit_spread**2

    def logits() -> tuple[Tensor, Tensor]:
        generic = common + text @ effect
        return generic, generic + own

    def objective() -> Tensor:
        rewards, (generic, personal) = design.rewards(heads), logits()
        loss = alpha * _loss(rewards, personal, person, target)
        if alpha < 1.0:
            loss = loss + (1.0 - alpha) * _loss(rewards, generic, person, target)
        penalty = head_penalty * heads.square().sum() + logit_penalty * (own.square().sum() + effect.square().sum())
        return loss + 0.5 * penalty

    loss = minimise(objective, parameters, iterations=iterations, run=run)
    return SimplexFit(heads.detach(), torch.softmax(logits()[1], 1).detach(), loss)


def _loss(rewards: Tensor, logits: Tensor, person: Tensor, target: Tensor) -> Tensor:
    margins = (rewards * torch.softmax(logits, 1).index_select(0, person)).sum(1)
    return functional.binary_cross_entropy_with_logits(margins, target, reduction="sum")


def _start(design: Design, person: Tensor, target: Tensor, people: int, rank: int) -> tuple[Tensor, Tensor]:
    """Corner heads (K, H) and people's logits (P, K) from a short signed fit."""
    directions, mean, own = leading_directions(design, person, target, people, rank)
    parameters = [mean.requires_grad_(), own.requires_grad_()]
    rewards = design.rewards(directions)

    def objective() -> Tensor:
        logits = (rewards * (mean + own).index_select(0, person)).sum(1)
        fit = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return fit + 0.5 * design.variance * own.square().sum()

    minimise(objective, parameters, iterations=START_ITERATIONS)
    points = (mean + own).detach()
    corners = points[_extremes(points - points.mean(0), rank)]
    corners = points.mean(0) + OUTWARDS * (corners - points.mean(0))
    lifted = torch.cat([corners, corners.new_ones(rank, 1)], 1)
    shares = torch.cat([points, points.new_ones(people, 1)], 1) @ torch.linalg.pinv(lifted)
    logits = shares.clamp(min=FEWEST_START).log()
    return corners @ directions, logits - logits.mean(1, keepdim=True)


def _extremes(points: Tensor, count: int) -> Tensor:
    """Rows that lie farthest out, each beyond the span of those before (successive projections)."""
    lifted = torch.cat([points, points.new_full((len(points), 1), float(points.norm(dim=1).median()))], 1)
    chosen = []
    for _ in range(count):
        farthest = int(lifted.norm(dim=1).argmax())
        chosen.append(farthest)
        axis = lifted[farthest] / lifted[farthest].norm().clamp(min=1e-12)
        lifted = lifted - (lifted @ axis)[:, None] * axis
    return torch.tensor(chosen, device=points.device)
