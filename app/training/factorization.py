"""Learns K basis rewards from many people's comparisons: low-rank logistic factorisation of rewards.

Model (PReF, arXiv 2503.06358, section 3): P(first | person u) = sigma(lambda_u · W d), d = h(first) -
h(second) the difference of pooled features, W (K, H) the basis reward heads, lambda_u = mean + own
part. Differences with the published code, and why: the initialisation is centred (a population model
is fitted first, and the low rank explains what it leaves), uses observed comparisons only, and the
penalty is on the people's coefficients, not on the features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor
from torch.nn import functional

SHRINKAGE = 0.3
"""Share of the features' mean variance that is added to the variance of every direction before whitening."""


@dataclass(frozen=True)
class Factorization:
    """``heads`` (K, H) on raw features; ``coefficients`` (people, K) of the training people."""

    heads: Float64[np.ndarray, "basis hidden"]
    coefficients: Float64[np.ndarray, "people basis"]
    loss: float


def fit_factorization(
    features: Float64[np.ndarray, "rows hidden"],
    first: Int64[np.ndarray, " comparisons"],
    second: Int64[np.ndarray, " comparisons"],
    people: Int64[np.ndarray, " comparisons"],
    labels: Float64[np.ndarray, " comparisons"],
    *,
    rank: int,
    penalty: float = 1.0,
    head_penalty: float = 20.0,
    iterations: int = 150,
    seed: int = 0,
) -> Factorization:
    """Joint maximum a posteriori of heads and coefficients by L-BFGS; vectorised over people.

    Args:
        features: Pooled hidden states of the distinct texts.
        first: Row of each comparison's first text; ``second`` likewise.
        people: Person of each comparison, 0 … people-1.
        labels: 1.0 where first was preferred, 0.5 for a tie, else 0.0.
        rank: K, the number of basis rewards.
        penalty: L2 weight on each person's deviation from the mean, in inverse squared log-odds.
        head_penalty: L2 weight on heads in whitened features; it fixes the scale of the two factors.
        iterations: At most this many L-BFGS iterations.
        seed: Seeds the randomised low-rank decomposition.
    """
    torch.manual_seed(seed)
    centre, whitening = _whitening(features[np.unique(np.concatenate([first, second]))])
    inputs = torch.from_numpy((features - centre) @ whitening).float()
    index = [torch.from_numpy(column) for column in (first, second, people)]
    differences, person = inputs[index[0]] - inputs[index[1]], index[2]
    target, count = torch.from_numpy(labels).float(), int(people.max()) + 1
    heads, mean, own = _initial(differences, person, target, count, rank)
    parameters = [tensor.requires_grad_() for tensor in (heads, mean, own)]

    def objective() -> Tensor:
        basis = differences @ heads.T
        logits = (basis * (mean + own)[person]).sum(1)
        fit = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return fit + 0.5 * penalty * own.square().sum() + 0.5 * head_penalty * heads.square().sum()

    loss = _minimise(objective, parameters, iterations) / len(labels)
    raw = heads.detach().double().numpy() @ whitening.T
    return Factorization(raw, (mean + own).detach().double().numpy(), loss)


def _whitening(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (H,) and shrunk whitening (H, H): directions of little variance are not blown up."""
    centre = features.mean(0)
    values, vectors = np.linalg.eigh(np.cov((features - centre).T))
    values = np.maximum(values, 0.0)
    return centre, vectors / np.sqrt(values + SHRINKAGE * values.mean())


def _initial(
    differences: Tensor, person: Tensor, target: Tensor, people: int, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Population direction by logistic regression, then the top directions of people's residuals."""
    direction = torch.zeros(differences.shape[1], requires_grad=True)

    def population() -> Tensor:
        logits = differences @ direction
        fit = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return fit + 5.0 * direction.square().sum()

    _minimise(population, [direction], 40)
    with torch.no_grad():
        residual = (target - torch.sigmoid(differences @ direction))[:, None] * differences
        scores = torch.zeros(people, differences.shape[1]).index_add(0, person, residual)
        _, _, right = torch.svd_lowrank(scores, q=min(rank + 8, *scores.shape), niter=4)
        common = direction / direction.norm().clamp(min=1e-6)
        heads = torch.cat([common[None], right[:, : rank - 1].T]) if rank > 1 else common[None]
        heads = torch.linalg.qr(heads.T).Q.T
        mean = heads @ direction
        own = torch.zeros(people, rank)
        counts = torch.bincount(person, minlength=people).clamp(min=1)[:, None]
        own += (scores @ heads.T) / (1.0 + 0.25 * counts)
    return heads.clone(), mean.clone(), own.clone()


def _minimise(objective: Callable[[], Tensor], parameters: list[Tensor], iterations: int) -> float:
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    loss = torch.zeros(())

    def closure() -> Tensor:
        nonlocal loss
        optimizer.zero_grad()
        loss = objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(loss.detach())
