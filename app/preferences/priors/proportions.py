"""One person's latent proportions: the softmax, and the Laplace fit below it. Knows no population."""

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import Answers, ResponseModel
from app.preferences.belief import FitReport
from app.preferences.gaussian import Posterior
from app.preferences.likelihood import answer_terms
from app.preferences.posterior import MAX_HALVINGS, ROUNDING, SUFFICIENT_DECREASE

MAX_ITERATIONS = 200
TOLERANCE = 1e-3  # Newton decrement, in posterior standard deviations: the fit only says where to draw


def proportions(latents: Float64[np.ndarray, "*people vertices"]) -> Float64[np.ndarray, "*people vertices"]:
    """Softmax over the last axis: positive and adding up to one."""
    powers = np.exp(latents - latents.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float64)


def fit_latent(
    prior: Posterior, vertices: Float64[np.ndarray, "vertices basis"], answers: Answers, response: ResponseModel
) -> tuple[Posterior, FitReport]:
    """Laplace approximation to the latent z (M,) of ``proportions(z) @ vertices``, by damped Gauss-Newton.

    The posterior may have several modes; the fit ends at a stationary point downhill from the prior's mean.

    Args:
        prior: Gaussian over z.
        vertices: Coefficients of the pure tastes, in log-odds per unit of basis reward.
        answers: In canonical order.
        response: How answers follow from margins.
    """
    rows = answers.differences @ vertices.T  # what each pure taste says of each pair
    at = prior.mean
    value, slope, curvature = _evaluate(prior, rows, answers, response, at)
    for iteration in range(MAX_ITERATIONS + 1):
        step = np.linalg.solve(curvature, slope)
        decrement = float(slope @ step)
        if decrement <= TOLERANCE**2 or iteration == MAX_ITERATIONS:
            break
        for halvings in range(MAX_HALVINGS + 1):
            length = 0.5**halvings
            trial = at - length * step
            found = _evaluate(prior, rows, answers, response, trial)
            if found[0] <= value - SUFFICIENT_DECREASE * length * decrement + ROUNDING * max(1.0, abs(value)):
                break
        at, (value, slope, curvature) = trial, found
    report = FitReport(decrement <= TOLERANCE**2, iteration, float(np.abs(slope).max()))
    return Posterior(at, curvature), report


def _evaluate(
    prior: Posterior,
    rows: Float64[np.ndarray, "comparisons vertices"],
    answers: Answers,
    response: ResponseModel,
    at: Float64[np.ndarray, " vertices"],
) -> tuple[float, Float64[np.ndarray, " vertices"], Float64[np.ndarray, "vertices vertices"]]:
    """Negative log posterior up to a constant, its gradient, and its Gauss-Newton curvature, exactly symmetric."""
    shares = proportions(at)
    margins = rows @ shares
    terms = answer_terms(margins, answers.first_preferred, response)
    weights = response.exponent * answers.weights
    along = shares * (rows - margins[:, None])  # derivative of each margin along z
    offset = at - prior.mean
    pull = prior.precision @ offset
    scaled = np.sqrt(weights * terms.information)[:, None] * along
    value = 0.5 * float(offset @ pull) + float(weights @ terms.losses)
    return value, pull + (weights * terms.slopes) @ along, prior.precision + scaled.T @ scaled
