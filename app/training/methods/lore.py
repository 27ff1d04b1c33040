"""Non-negative weights that add up to one on the basis rewards: the model of LoRe (arXiv 2504.14439, eq. 10).

Differences with the published procedure, and why: L-BFGS over all people at once from a seeded, meaningful start; the
scale of rewards is learned rather than fixed; weights have a prior, so that people with few comparisons stay near the
population.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from app.training.methods.checkpoint import identified
from app.training.methods.data import QUIET, LearnedBasis, Run, TrainingData, check_rank
from app.training.methods.design import SHRINKAGE, design_of, device
from app.training.methods.simplex import fit_simplex


@dataclass(frozen=True)
class Lore:
    """``rank`` heads, people's weights on the simplex between them.

    ``spread`` is the prior standard deviation of a basis reward over rows, in log-odds; ``logit_spread`` that of
    people's own logits.
    """

    rank: int
    spread: float = 2.0
    logit_spread: float = 2.0
    shrinkage: float = SHRINKAGE
    iterations: int = 100
    name: ClassVar[str] = "lore"

    def fit(self, data: TrainingData, rng: np.random.Generator, run: Run = QUIET) -> LearnedBasis:
        """Maximum a posteriori of heads and weights; the corners are the basis rewards themselves."""
        check_rank(self.rank, data)
        run = identified(run, self, data, rng)
        torch.manual_seed(int(rng.integers(2**31)))
        design = design_of(data, self.shrinkage)
        fit = fit_simplex(
            design,
            torch.from_numpy(data.people).to(device()),
            torch.from_numpy(data.labels).float().to(device()),
            people=data.person_count,
            rank=self.rank,
            spread=self.spread,
            logit_spread=self.logit_spread,
            iterations=self.iterations,
            run=run,
        )
        weights = fit.weights.double().cpu().numpy()
        return LearnedBasis(design.raw(fit.heads), weights, fit.loss / len(data), np.eye(self.rank))
