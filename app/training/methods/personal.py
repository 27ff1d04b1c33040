"""The personalised reward model of P-RLHF with a linear head e_u, reduced to K basis rewards.

r(text, u) = e_u · features, where the user model says what e_u may be: ``uniform`` e_0; ``individual`` e_0 + o_u, with
o_u shrunk towards zero; ``cluster`` a mixture of a few heads. Each comparison costs alpha times the loss of its person
plus 1 - alpha times that of the generic person, both from one pass over the comparison. What people wrote of
themselves moves the generic part linearly.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.training.methods.checkpoint import identified
from app.training.methods.data import QUIET, LearnedBasis, Run, TrainingData, check_rank
from app.training.methods.design import SHRINKAGE, Design, design_of, device
from app.training.methods.minimise import minimise
from app.training.methods.population import SPREAD, population_direction
from app.training.methods.simplex import fit_simplex

INDIFFERENT = 1e-5
"""Smallest share of the heads' size that a direction's spread must have to be one in which people differ."""
UserModel = Literal["uniform", "individual", "cluster"]


@dataclass(frozen=True)
class PersonalRewardModel:
    """P-RM with one of three user models.

    ``spread`` is the prior standard deviation over rows, in log-odds, of a person's own part (``individual``) or of a
    corner's reward (``cluster``). ``rank`` heads are kept: the mean head and the leading directions around it.
    """

    rank: int
    user_model: UserModel = "individual"
    alpha: float = 0.5
    spread: float = 2.0
    shrinkage: float = SHRINKAGE
    iterations: int = 60
    name: ClassVar[str] = "p-rm"

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha is {self.alpha}; it must be between 0 and 1.")

    def fit(self, data: TrainingData, rng: np.random.Generator, run: Run = QUIET) -> LearnedBasis:
        """Fit everyone's head, then keep ``rank`` directions of them."""
        check_rank(self.rank, data)
        run = identified(run, self, data, rng)
        torch.manual_seed(int(rng.integers(2**31)))
        design = design_of(data, self.shrinkage)
        person = torch.from_numpy(data.people).to(device())
        target = torch.from_numpy(data.labels).float().to(device())
        about = _scaled(data.about_features, data.person_count)
        if self.user_model == "cluster":
            return self._clusters(design, person, target, about, data, run)
        heads, loss = self._heads(design, person, target, about, data.person_count, run)
        kept = reduced(heads, self.rank)
        coefficients = (heads @ kept.T).double().cpu().numpy()
        return LearnedBasis(design.raw(kept), coefficients, loss / len(data))

    def _clusters(
        self, design: Design, person: Tensor, target: Tensor, about: Tensor, data: TrainingData, run: Run
    ) -> LearnedBasis:
        fit = fit_simplex(
            design,
            person,
            target,
            people=data.person_count,
            rank=self.rank,
            spread=self.spread,
            logit_spread=2.0,
            alpha=self.alpha,
            about=about,
            iterations=self.iterations,
            run=run,
        )
        weights = fit.weights.double().cpu().numpy()
        return LearnedBasis(design.raw(fit.heads), weights, fit.loss / len(data), np.eye(self.rank))

    def _heads(
        self, design: Design, person: Tensor, target: Tensor, about: Tensor, people: int, run: Run
    ) -> tuple[Tensor, float]:
        """Everyone's head (P, H) and the loss; for the uniform user model all heads differ by what was written only."""
        common = population_direction(design, target)[0][None].clone()
        personal = self.user_model == "individual"
        own = common.new_zeros(people if personal else 0, design.hidden)
        effect = common.new_zeros(about.shape[1], design.hidden)
        parameters = [tensor.requires_grad_() for tensor in (common, own, effect)]
        own_penalty, common_penalty = design.variance / self.spread**2, design.variance / SPREAD**2

        def objective() -> Tensor:
            if len(effect):
                generic = design.own_rewards(common + about @ effect, person)
            else:
                generic = design.rewards(common)[:, 0]
            loss = functional.binary_cross_entropy_with_logits(generic, target, reduction="sum")
            if personal:
                margins = generic + design.own_rewards(own, person)
                specific = functional.binary_cross_entropy_with_logits(margins, target, reduction="sum")
                loss = self.alpha * specific + (1.0 - self.alpha) * loss
            offsets = own.square().sum() + effect.square().sum()
            return loss + 0.5 * (own_penalty * offsets + common_penalty * common.square().sum())

        loss = minimise(objective, parameters, iterations=self.iterations, run=run)
        heads = (common + about @ effect).detach()
        return heads + own.detach() if personal else heads, loss


def reduced(heads: Tensor, rank: int) -> Tensor:
    """Orthonormal directions (at most K, H): the mean of ``heads`` (P, H), then where they differ most from it.

    Directions in which nobody differs are left out.
    """
    mean = heads.mean(0)
    _, spreads, leading = torch.linalg.svd(heads - mean, full_matrices=False)
    differing = int((spreads > INDIFFERENT * heads.norm()).sum())
    kept = torch.cat([mean[None], leading[: min(rank - 1, differing)]])
    directions: Tensor = torch.linalg.qr(kept.T).Q.T
    return directions


def _scaled(about: np.ndarray | None, people: int) -> Tensor:
    """About features (P, F) around their mean, with a mean squared length of 1; F = 0 without any."""
    if about is None:
        return torch.zeros(people, 0, device=device())
    centred = about - about.mean(axis=0)
    length = float(np.sqrt((centred**2).sum(axis=1).mean()))
    return torch.from_numpy((centred / (length or 1.0)).astype(np.float32)).to(device())
