"""Which candidate a person gets, and why. Knows candidates only by their basis rewards.

A person is never served below the population: a candidate replaces the population's favourite only if the person's
margin over it stays positive after a deduction for what is not known about the person.
"""

from dataclasses import dataclass
from math import log

import numpy as np
from jaxtyping import Float64, Int64

from app.preferences.belief import Belief
from app.preferences.gaussian import check_rows

CAUTION = 0.1
"""Posterior standard deviations deducted from a margin at strength 1.

With a calibrated posterior, a candidate whose margin's lower bound at 0.1 is zero is better than the population's with
probability 0.54: enough to refuse coin flips, little enough to act on the first answers.
"""

CHANGE_DRAWS = 256
CHANGE_SEED = 0
TIE_TOLERANCE = 1e-9  # relative: rewards of equal candidates may differ by rounding


def reward_moments(
    posterior: Belief, basis_rewards: Float64[np.ndarray, "candidates basis"]
) -> tuple[Float64[np.ndarray, " candidates"], Float64[np.ndarray, " candidates"]]:
    """Mean and standard deviation (N,) of each candidate's reward, in log-odds.

    Raises:
        ValueError: If ``basis_rewards`` is not finite or has another K.
    """
    means, variances = posterior.project(basis_rewards)
    return means, np.sqrt(variances)


def rank_candidates(
    posterior: Belief,
    prior: Belief,
    basis_rewards: Float64[np.ndarray, "candidates basis"],
    *,
    strength: float = 1.0,
) -> Int64[np.ndarray, " candidates"]:
    """Indices (N,) of the candidates, best first by the lower confidence bound of the person's margin.

    g = argmax prior.mean @ rewards is the population's favourite; a candidate's bound is
    E margin - (CAUTION / strength) * std margin of its reward over g's. g itself has the bound 0 and comes first among
    equals, then the lower index. ``strength`` near 0 always puts g first, large values follow the posterior mean.

    Args:
        posterior: Belief about the person.
        prior: Belief about the population.
        basis_rewards: Rewards (N, K) of the candidates, N >= 1.
        strength: How readily to leave the population's favourite, zero or positive.

    Raises:
        ValueError: If there is no candidate, a reward is not finite, K disagrees, or ``strength`` is negative or NaN.
    Source:
        The pessimism principle: Jin, Yang and Wang, Is Pessimism Provably Efficient for Offline RL? (2021), eq. 3.1.
    """
    generic = _generic_index(prior, basis_rewards)
    bounds = _bounds(posterior, basis_rewards, generic, strength)
    others = np.arange(len(bounds)) != generic
    return np.lexsort((others, -bounds))


def cautious_coefficients(posterior: Belief, prior: Belief, *, strength: float) -> Float64[np.ndarray, " basis"]:
    """Coefficients (K,) that order candidates much as ``rank_candidates`` does, for engines that know no beliefs.

    A candidate's bound there is its least margin under any coefficients within CAUTION / strength standard deviations
    of the posterior mean, by Mahalanobis' distance. Of these, the ones on the straight line to the population's mean
    that come closest to it: that mean itself where ``strength`` is small, nearly the posterior mean where it is large.

    Args:
        posterior: Belief about the person.
        prior: Belief about the population.
        strength: How readily to leave the population's favourite, positive.

    Raises:
        ValueError: If ``strength`` is not positive.
    """
    if not strength > 0.0:
        raise ValueError(f"strength is {strength}; it must be positive.")
    away = prior.mean - posterior.mean
    distance = float(np.sqrt(max(0.0, away @ np.linalg.pinv(posterior.covariance(), hermitian=True) @ away)))
    share = min(1.0, CAUTION / strength / distance) if distance > 0.0 else 0.0
    return np.asarray(posterior.mean + share * away, dtype=np.float64)


@dataclass(frozen=True)
class SoftOrder:
    """Candidates in the order in which they were drawn, and the entropy of the first draw in nats."""

    order: Int64[np.ndarray, " candidates"]
    entropy: float


def draw_order(
    posterior: Belief,
    prior: Belief,
    basis_rewards: Float64[np.ndarray, "candidates basis"],
    *,
    strength: float,
    temperature: float,
    rng: np.random.Generator,
) -> SoftOrder:
    """Draw candidates (N,) one after the other, each with probability in proportion to exp(bound / temperature).

    The bounds are those of ``rank_candidates``; temperatures near 0 give its order, large ones a random one.

    Args:
        posterior: Belief about the person.
        prior: Belief about the population.
        basis_rewards: Rewards (N, K) of the candidates, N >= 1.
        strength: How readily to leave the population's favourite, positive.
        temperature: In log-odds, positive.
        rng: Where the draw comes from; N standard Gumbel numbers are taken.

    Raises:
        ValueError: As ``rank_candidates`` does, and if ``strength`` or ``temperature`` is not positive.
    Source:
        Verdun et al., Soft Best-of-n Sampling for Model Alignment (2025); drawn by Gumbel's trick, Kool, van Hoof
        and Welling, Stochastic Beams and Where to Find Them (2019), sec. 2.3.
    """
    if not (strength > 0.0 and temperature > 0.0):
        raise ValueError(f"strength is {strength} and temperature {temperature}; both must be positive.")
    bounds = _bounds(posterior, basis_rewards, _generic_index(prior, basis_rewards), strength)
    with np.errstate(over="ignore"):  # what is infinitely worse is never drawn first
        logits = (bounds - bounds.max()) / temperature
    logits -= np.log(np.exp(logits).sum())
    possible = logits[np.isfinite(logits)]
    entropy = -float((np.exp(possible) * possible).sum())
    order = np.lexsort((-bounds, -(logits + rng.gumbel(size=len(logits)))))
    return SoftOrder(order, max(0.0, entropy))


def kl_bound(n: int) -> float:
    """Most nats by which choosing one of ``n`` independent candidates, by any rule, can leave what they are drawn from.

    log n - (n - 1) / n: whatever is in a set A has at most the probability 1 - (1 - P(A))^n of being among n draws, and
    of all laws within that limit the best of n under a continuous reward is the furthest.

    Raises:
        ValueError: If ``n`` is below 1.
    Source:
        Beirami et al., Theoretical guarantees on the best-of-n alignment policy (2024), theorem 3.1.
    """
    if n < 1:
        raise ValueError(f"n is {n}; it must be at least 1.")
    return log(n) - (n - 1) / n


def soft_kl(n: int, entropy: float) -> float:
    """log n - entropy (of the draw among ``n`` candidates), in nats: its mean over prompts bounds the divergence too.

    Turn the candidate drawn to the front: the joint law of all candidates then diverges from independence by exactly
    the mean of this, and that of one of them by no more.
    """
    return max(0.0, log(n) - entropy)


def change_probability(
    belief: Belief, candidates: Float64[np.ndarray, "sets candidates basis"], *, draws: int = CHANGE_DRAWS
) -> float:
    """How often knowing the person fully would change what they are served, mean over sets of candidates.

    For every set, the probability that the candidate which is best under the person's true coefficients differs from
    the best under the mean. Deterministic: the coefficients are drawn with a fixed seed, and the standard error over
    them is at most 0.5 / sqrt(draws). Candidates of equal reward are no change.

    Args:
        belief: Belief about the person.
        candidates: Basis rewards (S, N, K) of S sets of candidates like those really served; S, N >= 1.
        draws: Coefficient vectors to average over, at least one; memory grows with draws times candidates.

    Returns:
        A number in [0, 1]; 0 for sets of one candidate.

    Raises:
        ValueError: If there is no candidate or no draw, a reward is not finite, or K disagrees.
    Source:
        Frazier, Powell and Dayanik, The Knowledge-Gradient Policy for Correlated Normal Beliefs (2009), sec. 2: the
        decision that further measurements could change.
    """
    if candidates.size == 0 or draws < 1:
        raise ValueError(f"candidates are {candidates.shape} and draws {draws}; pass at least one of each.")
    check_rows(candidates.reshape(-1, candidates.shape[-1]), belief.size)
    served = np.argmax(candidates @ belief.mean, axis=1)
    people = belief.draw(draws, np.random.default_rng(CHANGE_SEED))
    rewards = candidates @ people.T
    kept = np.take_along_axis(rewards, served[:, None, None], axis=1)[:, 0]
    return float((rewards.max(axis=1) > kept + TIE_TOLERANCE * np.abs(kept)).mean())


def contributions(
    posterior: Belief, chosen: Float64[np.ndarray, " basis"], baseline: Float64[np.ndarray, " basis"]
) -> Float64[np.ndarray, " basis"]:
    """Each axis' part (K,) in the person's margin of one response over another, in log-odds.

    The parts, mean coefficient times difference of basis rewards, add up to the margin's mean.

    Args:
        posterior: Belief about the person.
        chosen: Basis rewards of the response to explain.
        baseline: Basis rewards of the response it is compared with, usually the population's favourite.

    Raises:
        ValueError: If a reward is not finite or K disagrees.
    """
    check_rows(np.stack([chosen, baseline]), posterior.size)
    return np.asarray(posterior.mean * (chosen - baseline), dtype=np.float64)


def _generic_index(prior: Belief, basis_rewards: Float64[np.ndarray, "candidates basis"]) -> int:
    """The population's favourite; the lowest index among equals."""
    check_rows(basis_rewards, prior.size)
    if len(basis_rewards) == 0:
        raise ValueError("There is no candidate to choose from; pass at least one row of basis rewards.")
    return int(np.argmax(basis_rewards @ prior.mean))


def _bounds(
    posterior: Belief, basis_rewards: Float64[np.ndarray, "candidates basis"], generic: int, strength: float
) -> Float64[np.ndarray, " candidates"]:
    """Cautious bound (N,) of each candidate's margin over the population's favourite, in log-odds."""
    if not strength >= 0.0:
        raise ValueError(f"strength is {strength}; it must be zero or positive.")
    means, stds = reward_moments(posterior, basis_rewards - basis_rewards[generic])
    caution = CAUTION / strength if strength > 0.0 else np.inf
    if np.isinf(caution):
        return np.where(np.arange(len(means)) == generic, 0.0, -np.inf)
    with np.errstate(over="ignore"):
        return np.asarray(means - caution * stds, dtype=np.float64)
