"""Bradley-Terry: one reward for everyone, the baseline that every personal method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from app.training.methods.checkpoint import identified
from app.training.methods.data import QUIET, LearnedBasis, Run, TrainingData
from app.training.methods.design import SHRINKAGE, design_of, device
from app.training.methods.population import SPREAD, population_direction


@dataclass(frozen=True)
class Uniform:
    """One head, with a coefficient of 1 for everybody; its reward is believed to vary by ``common_spread`` log-odds."""

    rank: int = 1
    common_spread: float = SPREAD
    shrinkage: float = SHRINKAGE
    iterations: int = 100
    name: ClassVar[str] = "uniform"

    def __post_init__(self) -> None:
        if self.rank != 1:
            raise ValueError(f"rank is {self.rank}; the uniform method has one basis reward, pass 1.")

    def fit(self, data: TrainingData, rng: np.random.Generator, run: Run = QUIET) -> LearnedBasis:
        """Logistic regression on all comparisons; draws nothing from ``rng``."""
        run = identified(run, self, data, rng)
        design = design_of(data, self.shrinkage)
        target = torch.from_numpy(data.labels).float().to(device())
        direction, loss = population_direction(
            design, target, spread=self.common_spread, iterations=self.iterations, run=run
        )
        return LearnedBasis(design.raw(direction[None]), np.ones((data.person_count, 1)), loss / len(data))
