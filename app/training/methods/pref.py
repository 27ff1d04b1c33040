"""Signed coefficients, centred on a population: P(first | person u) = sigma(lambda_u · W d).

Model of PReF (arXiv 2503.06358, section 3), d the difference of pooled features, W (K, H) the basis reward heads,
lambda_u = mean + own part. Differences with the published procedure, and why: the initialisation is centred (a
population model is fitted first, and the low rank explains what it leaves), uses observed comparisons only, and the
penalty is on the people's coefficients, not on the features.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.training.methods.checkpoint import identified
from app.training.methods.data import QUIET, LearnedBasis, Run, TrainingData, check_rank
from app.training.methods.design import SHRINKAGE, design_of, device
from app.training.methods.minimise import minimise
from app.training.methods.population import leading_directions


@dataclass(frozen=True)
class Pref:
    """Low-rank logistic factorisation with ``rank`` heads.

    People's own parts are believed to be N(0, I), and a basis reward to vary over rows by ``spread`` log-odds, which
    together fix the scale of the two factors; ``shrinkage`` is that of the whitening.
    """

    rank: int
    spread: float = 0.5
    shrinkage: float = SHRINKAGE
    iterations: int = 100
    name: ClassVar[str] = "pref"

    def fit(self, data: TrainingData, rng: np.random.Generator, run: Run = QUIET) -> LearnedBasis:
        """Joint maximum a posteriori of heads and coefficients by L-BFGS; vectorised over people."""
        check_rank(self.rank, data)
        run = identified(run, self, data, rng)
        torch.manual_seed(int(rng.integers(2**31)))
        design = design_of(data, self.shrinkage)
        person = torch.from_numpy(data.people).to(device())
        target = torch.from_numpy(data.labels).float().to(device())
        heads, mean, own = leading_directions(design, person, target, data.person_count, self.rank)
        head_penalty = design.variance / self.spread**2
        parameters = [tensor.requires_grad_() for tensor in (heads, mean, own)]

        def objective() -> Tensor:
            logits = (design.rewards(heads) * (mean + own).index_select(0, person)).sum(1)
            fit = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
            return fit + 0.5 * own.square().sum() + 0.5 * head_penalty * heads.square().sum()

        loss = minimise(objective, parameters, iterations=self.iterations, run=run)
        coefficients = (mean + own).detach().double().cpu().numpy()
        return LearnedBasis(design.raw(heads), coefficients, loss / len(data))
