"""Signed coefficients averaged over, not maximised: heads of the largest marginal likelihood, by variational EM.

Model: reward = w0 · f + z_u · (W f), z_u ~ N(0, I) the own part of person u. ``pref`` maximises over everyone's z_u
jointly with the heads, which takes what is not known of a person for a taste of theirs; here z_u is integrated out
under a Gaussian bound of the logistic likelihood, in which both steps are weighted least squares in closed form.
Knows nothing of how features are stored: it only maps heads to reward differences, and back.

Source:
    Jaakkola and Jordan, Bayesian Parameter Estimation via Variational Methods (2000), eq. 10-13, for the bound;
    Liu, Rubin and Wu, Parameter Expansion to Accelerate EM (1998), for the rescaling.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from app.preferences.gaussian import Posterior
from app.training.methods.checkpoint import identified, load_checkpoint, save_checkpoint
from app.training.methods.data import QUIET, LearnedBasis, Run, TrainingData, check_rank
from app.training.methods.design import SHRINKAGE, Design, design_of, device
from app.training.methods.population import leading_directions

INITIAL_SPREAD = 0.7
"""Root mean square of a factor's reward differences at the start, in log-odds."""
PERSON_STEPS = 2
HEAD_STEPS = 6
COMMON_ROUNDS = 10
"""Passes over people and conjugate-gradient steps over heads in each round; rounds for the population alone."""

COMMON_SPREAD = 1.0
COMMON_STD = 0.3
"""Standard deviation of people's coefficient on the population's reward, in the prior: some answer more clearly.

Set by hand: the heads are learned as if it were zero."""


@dataclass(frozen=True)
class Variational:
    """A population's reward and ``rank`` - 1 factors in which people differ from it.

    A factor is believed to vary over rows by ``spread`` log-odds, and the population's reward by ``common_spread``.
    """

    rank: int
    spread: float = 0.5
    common_spread: float = COMMON_SPREAD
    shrinkage: float = SHRINKAGE
    rounds: int = 25
    name: ClassVar[str] = "variational"

    def fit(self, data: TrainingData, rng: np.random.Generator, run: Run = QUIET) -> LearnedBasis:
        """Alternate between people's own parts and the heads for ``rounds`` rounds; vectorised over people.

        The basis comes with its own prior: what the heads were learned under.
        """
        check_rank(self.rank, data)
        run = identified(run, self, data, rng)
        torch.manual_seed(int(rng.integers(2**31)))
        design = design_of(data, self.shrinkage)
        answers = Answered.of(data)
        spreads = answers.target.new_tensor([self.common_spread, *[self.spread] * (self.rank - 1)])
        penalty = (design.variance / spreads.square())[:, None]
        common = _common(design, answers, penalty[:1])
        heads = torch.cat([common, _factors(design, answers, self.rank)])
        people = answers.people(design.rewards(heads), torch.full_like(answers.target, 0.25))
        done, heads, people = _resume(run, heads, people)
        for number in range(done, self.rounds):
            heads = answers.heads(design, heads, penalty, people)
            heads[1:] = _rescaled(heads[1:], penalty[1:], people)
            people = answers.people(design.rewards(heads), people.curvature)
            if run.progress:
                run.progress(number + 1, answers.loss(people))
            if run.checkpoint and (number + 1) % run.every == 0:
                save_checkpoint(run, {"done": number + 1, "heads": heads, "people": vars(people)})
        coefficients = people.means.double().cpu().numpy()
        return LearnedBasis(design.raw(heads), coefficients, answers.loss(people), prior=self._prior())

    def _prior(self) -> Posterior:
        """Everybody shares the population's reward, with some width given by hand; factors are standard normal."""
        mean, precision = np.zeros(self.rank), np.eye(self.rank)
        mean[0], precision[0, 0] = 1.0, 1.0 / COMMON_STD**2
        return Posterior(mean, precision)


@dataclass(frozen=True)
class People:
    """Coefficients, the population's being 1: means (P, K) and second moments (P, K, K); ``margins`` (N,) at the means.

    ``curvature`` (N,) is that of the bound at each comparison, tight for this belief.
    """

    means: Tensor
    second: Tensor
    margins: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Answered:
    """Who answered each comparison, and how: ``target`` (N,) is 1 for first, 0.5 for a tie, else 0."""

    person: Tensor
    target: Tensor
    count: int

    @classmethod
    def of(cls, data: TrainingData) -> "Answered":
        """The columns of ``data`` on the device."""
        person = torch.from_numpy(data.people).to(device())
        return cls(person, torch.from_numpy(data.labels).float().to(device()), data.person_count)

    def people(self, rewards: Tensor, curvature: Tensor) -> People:
        """E-step: everyone's own part under the bound, and the bound that is tight for it."""
        common, own = rewards[:, 0], rewards[:, 1:]
        size = own.shape[1]
        for _ in range(PERSON_STEPS):
            weighted = curvature[:, None] * own
            precisions = torch.eye(size).to(own).repeat(self.count, 1, 1)
            for column in range(size):
                precisions[:, column] += self._sums(weighted * own[:, [column]])
            covariances = torch.linalg.inv(precisions)
            pull = self._sums(((self.target - 0.5) - curvature * common)[:, None] * own)
            means = (covariances @ pull[:, :, None])[:, :, 0]
            margins = common + (own * means.index_select(0, self.person)).sum(1)
            spread = (own[:, None] @ covariances.index_select(0, self.person))[:, 0]
            curvature = _curvature(margins.square() + (own * spread).sum(1))
        full = torch.cat([means.new_ones(self.count, 1), means], 1)
        second = full[:, :, None] * full[:, None]
        second[:, 1:, 1:] += covariances
        return People(full, second, margins, curvature)

    def heads(self, design: Design, heads: Tensor, penalty: Tensor, people: People) -> Tensor:
        """M-step: some steps of conjugate gradients on all heads' penalised least squares."""
        second = people.second.index_select(0, self.person) * people.curvature[:, None, None]
        means = people.means.index_select(0, self.person)

        def normal(values: Tensor) -> Tensor:
            return design.collect((second @ design.rewards(values)[:, :, None])[:, :, 0]) + penalty * values

        residual = design.collect((self.target - 0.5)[:, None] * means) - normal(heads)
        direction, size = residual, residual.square().sum()
        for _ in range(HEAD_STEPS):
            image = normal(direction)
            length = size / (direction * image).sum().clamp(min=1e-30)
            heads, residual = heads + length * direction, residual - length * image
            before, size = size, residual.square().sum()
            direction = residual + size / before.clamp(min=1e-30) * direction
        return heads

    def loss(self, people: People) -> float:
        """Mean loss of a comparison at people's means, in nats."""
        return float(functional.binary_cross_entropy_with_logits(people.margins, self.target))

    def _sums(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.count, values.shape[1]).index_add(0, self.person, values)


def _common(design: Design, answers: Answered, penalty: Tensor) -> Tensor:
    """The population's head (1, H) if nobody differed from it."""
    head = penalty.new_zeros(1, design.hidden)
    curvature = torch.full_like(answers.target, 0.25)
    for _ in range(COMMON_ROUNDS):
        people = answers.people(design.rewards(head), curvature)
        curvature = people.curvature
        head = answers.heads(design, head, penalty, people)
    return head


def _factors(design: Design, answers: Answered, rank: int) -> Tensor:
    """Heads (K - 1, H) along the leading directions of what a population's reward leaves, all of one spread."""
    directions, _, _ = leading_directions(design, answers.person, answers.target, answers.count, rank)
    size = design.rewards(directions[1:]).square().mean(0).sqrt().clamp(min=1e-6)
    return INITIAL_SPREAD * directions[1:] / size[:, None]


def _curvature(square: Tensor) -> Tensor:
    """tanh(c / 2) / 2c of the bound, c² the mean square of the margin; 1/4 at zero."""
    root = square.clamp(min=1e-8).sqrt()
    return torch.tanh(root / 2.0) / (2.0 * root)


def _rescaled(heads: Tensor, penalty: Tensor, people: People) -> Tensor:
    """Factors' heads such that own parts have unit second moment M, where that does not lower the penalised bound.

    What comparisons say does not change: the likelihood depends on heads and own parts through their product only.
    Own parts come nearer to their prior, by (tr M - log det M - K) / 2 a person, and the heads' penalty changes.
    """
    moment = people.second[:, 1:, 1:].mean(0)
    scale = torch.linalg.cholesky(moment)
    moved = scale.T @ heads
    nearer = len(people.means) * (moment.trace() - 2.0 * scale.diagonal().log().sum() - len(heads))
    paid = (penalty * (moved.square() - heads.square())).sum()
    return moved if nearer >= paid else heads


def _resume(run: Run, heads: Tensor, people: People) -> tuple[int, Tensor, People]:
    """Rounds done, heads and people of the checkpoint, or the start where there is none."""
    state = load_checkpoint(run, heads.device)
    return (0, heads, people) if state is None else (int(state["done"]), state["heads"], People(**state["people"]))
