"""People who mix a few pure tastes in proportions that add up to one: LoRe's simplex, P-RLHF's clusters.

coefficients = scale * softmax(z) @ vertices, with the latent z drawn from one Gaussian (a logistic-normal). The
vertices are the coefficients of the pure tastes; turning the basis by a linear map turns them along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.gaussian import Posterior
from app.preferences.people import PeopleProblem
from app.preferences.population import maximise
from app.preferences.posterior import canonical, check_answers
from app.preferences.priors.components import Components, joint_log_likelihood, points
from app.preferences.priors.proportions import fit_latent, proportions

DRAWS = 512  # of them, half from the population and half from the person's Laplace fit
DRAWS_SEED = 2025
WIDENED = 1.5  # standard deviations of the Laplace fit that draws come from: its tails are too thin
BANK = 1536  # latents that stand for everybody while fitting
BANK_STDS = (1.0, 4.0)  # of the latents in the bank, half each: mixtures of all tastes, and nearly pure tastes
DECISIVENESS = tuple(float(value) for value in 2.0 ** np.arange(-1, 7))  # typical margin of a pure taste, in log-odds
ROUNDS = 60
SETTLED = 1e-3  # of a standard deviation: smaller moves of the latent population end the rounds
SHRINKAGE = 5.0  # imagined people spread alike in every latent direction
LATENT_STD = 2.0  # of the latents, where the rounds start
KNOWN = FitReport(converged=True, iterations=0, largest_gradient=0.0)


@dataclass(frozen=True, eq=False)
class SimplexPrior:
    """``latent``, a Gaussian over z (M,), and the pure tastes ``vertices`` (M, K), which include the scale.

    Raises:
        ValueError: If the sizes disagree or ``vertices`` is not finite.
    """

    latent: Posterior
    vertices: Float64[np.ndarray, "vertices basis"]
    family: ClassVar[str] = "simplex"

    def __post_init__(self) -> None:
        if len(self.vertices) != self.latent.size or not np.isfinite(self.vertices).all():
            raise ValueError(
                f"vertices {self.vertices.shape} must be finite and as many as the {self.latent.size} latents."
            )

    @cached_property
    def _noise(self) -> Float64[np.ndarray, "draws latent"]:
        """The same normal numbers for every person, in opposite pairs: conditioning is deterministic."""
        half = np.random.default_rng(DRAWS_SEED).standard_normal((DRAWS // 2, self.latent.size))
        return np.stack([half, -half], axis=1).reshape(DRAWS, self.latent.size)

    @cached_property
    def population(self) -> Components:
        """``DRAWS`` people drawn from the population, with equal weights."""
        drawn = self.latent.mean + self._noise @ self.latent.whitening
        return points(np.zeros(DRAWS), proportions(drawn) @ self.vertices)

    def told(self, about: str | None) -> "SimplexPrior":  # noqa: ARG002 - this family does not read
        """The prior itself: this family does not read what people write of themselves."""
        return self

    def condition(self, answers: Answers, response: ResponseModel) -> tuple[Components, FitReport]:
        """Belief after ``answers``: draws around the latent Laplace fit and from the population, by their importance.

        Raises:
            ValueError: As ``Prior.condition``.
        Source:
            Owen and Zhou, Safe and Effective Importance Sampling (2000), for drawing from both.
        """
        check_answers(answers, self.vertices.shape[1])
        answers = canonical(answers)
        if len(answers) == 0 or response.exponent == 0.0:
            return self.population, KNOWN
        near, report = fit_latent(self.latent, self.vertices, answers, response)
        half = DRAWS // 2
        around = near.mean + WIDENED * self._noise[:half] @ near.whitening
        anywhere = self.latent.mean + self._noise[half:] @ self.latent.whitening
        latents = np.concatenate([around, anywhere])
        log_population = _log_density(self.latent, latents)
        wide = Posterior(near.mean, near.precision / WIDENED**2)
        log_proposal = np.logaddexp(_log_density(wide, latents), log_population)
        coefficients = proportions(latents) @ self.vertices
        log_weights = joint_log_likelihood(answers, coefficients, response) + log_population - log_proposal
        return points(log_weights, coefficients), report

    def arrays(self) -> Mapping[str, np.ndarray]:
        """``latent_mean`` (M,), ``latent_precision`` (M, M) and ``vertices`` (M, K)."""
        return {
            "latent_mean": self.latent.mean,
            "latent_precision": self.latent.precision,
            "vertices": self.vertices,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "SimplexPrior":
        """The prior that ``arrays`` described; raises ``KeyError`` or ``ValueError`` if they describe none."""
        return cls(Posterior(arrays["latent_mean"], arrays["latent_precision"]), arrays["vertices"])


@dataclass(frozen=True, eq=False)
class SimplexFit:
    """Fits the latent Gaussian by EM, and the scale of the ``vertices`` (M, K), by the evidence of everyone's answers.

    Without vertices every basis reward is a pure taste of its own, as in LoRe. Everyone's likelihood is computed once
    on a bank of latents; the rounds of EM only weigh the bank anew.
    """

    vertices: Float64[np.ndarray, "vertices basis"] | None = None
    family: ClassVar[str] = "simplex"

    def __call__(
        self,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        people: np.ndarray,
        about: Sequence[str | None] | None,  # noqa: ARG002 - every family is called alike
        rng: np.random.Generator,
    ) -> SimplexPrior:
        """``rng`` draws the bank; ``about`` is not used."""
        vertices = np.eye(differences.shape[1]) if self.vertices is None else self.vertices
        problem = PeopleProblem(differences, first_preferred, people)
        stds = np.repeat(BANK_STDS, BANK // len(BANK_STDS))
        bank = stds[:, None] * rng.standard_normal((BANK, len(vertices)))
        log_bank = np.logaddexp.reduce([_log_density(_around_zero(std, len(vertices)), bank) for std in BANK_STDS])
        typical = float(np.sqrt(np.square(differences @ vertices.T).mean()))
        fits = []
        for decisiveness in DECISIVENESS:
            scaled = vertices * (decisiveness / max(typical, 1e-12))
            likelihoods = problem.log_likelihoods(proportions(bank) @ scaled)
            fits.append((*_fit_bank(likelihoods, bank, log_bank), scaled))
        _, latent, scaled = max(fits, key=lambda fit: fit[0])
        return SimplexPrior(latent, scaled)


def _fit_bank(
    likelihoods: Float64[np.ndarray, "people bank"],
    bank: Float64[np.ndarray, "bank latent"],
    log_bank: Float64[np.ndarray, " bank"],
) -> tuple[float, Posterior]:
    """EM for the latent Gaussian given everyone's log-likelihood on the bank; with the evidence at the end, in nats.

    The bank's weights are normalised in every round: else a Gaussian around a single far-out latent would seem best.
    """
    latent = _around_zero(LATENT_STD, bank.shape[1])
    evidence = -np.inf
    for _ in range(ROUNDS):
        log_shares = _log_density(latent, bank) - log_bank
        joint = likelihoods + (log_shares - np.logaddexp.reduce(log_shares))
        highest = joint.max(axis=1, keepdims=True)
        weights = np.exp(joint - highest)
        totals = weights.sum(axis=1, keepdims=True)
        evidence = float((np.log(totals) + highest).sum())
        stand_for = (weights / totals).sum(axis=0)
        before = latent
        latent = maximise(bank, np.zeros((len(bank), *latent.precision.shape)), stand_for, SHRINKAGE)
        if np.abs((latent.mean - before.mean) / before.std()).max() < SETTLED:
            break
    return evidence, latent


def _around_zero(std: float, size: int) -> Posterior:
    """Independent latents around zero."""
    return Posterior(np.zeros(size), np.eye(size) / std**2)


def _log_density(gaussian: Posterior, at: Float64[np.ndarray, "draws latent"]) -> Float64[np.ndarray, " draws"]:
    """Log-density of a Gaussian, up to the constant that all Gaussians of this size share."""
    whitened = np.linalg.solve(gaussian.whitening.T, (at - gaussian.mean).T)
    log_volume = 0.5 * np.linalg.slogdet(gaussian.precision)[1]
    return np.asarray(log_volume - 0.5 * np.square(whitened).sum(axis=0), dtype=np.float64)
