"""What people have in common, as one Gaussian, and what it is worth.

Everything here is fitted offline, on many people's answers; nothing here knows a single person by name.
"""

import numpy as np
from jaxtyping import Float64, Int64

from app.preferences.gaussian import Posterior
from app.preferences.logistic import log_sigmoid
from app.preferences.people import PeopleProblem
from app.preferences.posterior import fit_posterior

MEAN_STD = 3.0  # of the population mean before any data, in log-odds: keeps the mean finite if all people agree
INITIAL_STD = 1.0  # of people around the population mean, in log-odds: where the iterations start
ANCHOR_PEOPLE = 0.1  # imagined people spread by INITIAL_STD: keep a prior from a few real people from collapsing
UNCHANGED = 1e-4  # of a person's standard deviation: smaller moves of the prior end the iterations
SMALLEST_PROBABILITY = 1e-12  # what an answer held for impossible costs at most: 28 nats


def fit_population(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    people: Int64[np.ndarray, " comparisons"],
    *,
    iterations: int = 200,
    shrinkage: float = 10.0,
    shifts: Float64[np.ndarray, "people basis"] | None = None,
) -> Posterior:
    """Fit the Gaussian that people's coefficients are drawn from, by empirical Bayes (EM).

    E-step: the Gaussian closest to every person's posterior under the current prior, from their Laplace fits on.
    M-step: mean = average of the people's means m, covariance = average of (m - mean)(m - mean)ᵀ + their covariance.
    The last term counts what is not known of each person: without it, means that the prior has pulled together would
    narrow the prior further in every round. With Laplace fits in the E-step the prior would still come out up to half
    as wide as it is if people answer few questions clearly; averaging over each margin's uncertainty removes that.

    The covariance is averaged with ``shrinkage`` imagined people spread alike in every direction, and with a tenth of
    one spread by 1 log-odds; the mean with a wide Gaussian around zero.

    Args:
        differences: Basis rewards of the first candidate minus the second, of all people.
        first_preferred: 1.0 where the first candidate was preferred, 0.0 where the second, 0.5 for a tie.
        people: Who answered each comparison; any integers.
        iterations: Most rounds of EM; fewer if the prior stops moving. A variance that is truly zero is approached
            as one over the square root of the rounds.
        shrinkage: Weight of the isotropic covariance, in people.
        shifts: Known part of each person's coefficients, in the order of the sorted people; the population is then
            that of the rest.

    Returns:
        The population: mean in log-odds per unit of basis reward, and precision. The order of rows does not matter.

    Raises:
        ValueError: If there is no comparison, an array disagrees in length or is not finite, or ``iterations`` is
            below one or ``shrinkage`` negative.
    Source:
        Gelman et al., Bayesian Data Analysis (3rd ed., 2013), sec. 13.6; Opper and Archambeau, The Variational
        Gaussian Approximation Revisited (2009), for the E-step.
    """
    if iterations < 1 or not 0.0 <= shrinkage < np.inf:
        raise ValueError(f"iterations is {iterations} and shrinkage {shrinkage}; they must be >= 1 and >= 0.")
    problem = PeopleProblem(differences, first_preferred, people, shifts=shifts)
    prior = _pooled_start(problem)
    fit = problem.fit(prior)
    for _ in range(iterations):
        fit = problem.refine(prior, fit)
        previous, prior = prior, maximise(fit.means, fit.covariances(), np.ones(len(fit.ids)), shrinkage)
        if _largest_move(previous, prior) < UNCHANGED:
            break
    return prior


def log_loss(probabilities: Float64[np.ndarray, " answers"], first_preferred: Float64[np.ndarray, " answers"]) -> float:
    """Mean negative log-likelihood of answers in nats, at most 28 for an answer held for impossible."""
    bounded = np.clip(probabilities, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    log_odds = np.log(bounded) - np.log1p(-bounded)
    losses = first_preferred * log_sigmoid(log_odds) + (1.0 - first_preferred) * log_sigmoid(-log_odds)
    return float(-losses.mean())


def _pooled_start(problem: PeopleProblem) -> Posterior:
    """Everyone's answers fitted as one person's, and people spread around that by ``INITIAL_STD``.

    If people hardly differ the pooled fit is already their mean, which EM alone would approach slowly.
    """
    unit = np.eye(problem.size)
    rows, answers = problem.pooled()
    everyone, _ = fit_posterior(Posterior(np.zeros(problem.size), unit / MEAN_STD**2), rows, answers)
    return Posterior(everyone.mean, unit / INITIAL_STD**2)


def maximise(
    means: Float64[np.ndarray, "people basis"],
    covariances: Float64[np.ndarray, "people basis basis"],
    weights: Float64[np.ndarray, " people"],
    shrinkage: float,
) -> Posterior:
    """M-step: the Gaussian that fits people best, given what is known of each and how much each belongs to it.

    Args:
        means: Everyone's expected coefficients (P, K).
        covariances: What is not known of everyone (P, K, K).
        weights: How much of each person belongs here (P,), between zero and one.
        shrinkage: Weight of the isotropic covariance, in people.
    """
    count, size = float(weights.sum()), means.shape[1]
    centre = weights @ means / count
    deviations = np.sqrt(weights)[:, None] * (means - centre)
    total = deviations.T @ deviations + np.einsum("p,pkl->kl", weights, covariances)
    variance = np.trace(total) / (count * size)
    isotropic = shrinkage * variance + ANCHOR_PEOPLE * INITIAL_STD**2
    covariance = (total + isotropic * np.eye(size)) / (count + shrinkage + ANCHOR_PEOPLE)
    inverse = np.linalg.inv(covariance)
    precision = (inverse + inverse.T) / 2.0
    # The mean's own posterior: `count` people of this precision against N(0, MEAN_STD² I).
    mean = np.linalg.solve(count * precision + np.eye(size) / MEAN_STD**2, count * (precision @ centre))
    return Posterior(mean, precision)


def _largest_move(before: Posterior, after: Posterior) -> float:
    """Largest change of a mean or standard deviation, in standard deviations of people before."""
    stds = before.std()
    return float(np.maximum(np.abs(after.mean - before.mean), np.abs(after.std() - stds)).max() / stds.min())
