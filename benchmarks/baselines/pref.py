"""PReF's two steps between a person's answers (arXiv 2503.06358 and its code): fit the person, choose a question.

Written from the formulas: gradient descent of 5,000 full-batch steps on the mean log-loss from a random
start, without a prior; and the pool's pairs scored one by one in a Python loop.
"""

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional

DESCENT_STEPS = 5_000
DESCENT_RATE = 0.01
RIDGE = 1e-3


def descend(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, " basis"]:
    """The published fit with the published tools; without torch's optimizer object, which would double the cost."""
    rows, labels = torch.from_numpy(differences), torch.from_numpy(first_preferred)
    coefficients = torch.from_numpy(rng.standard_normal(differences.shape[1])).requires_grad_()
    for _ in range(DESCENT_STEPS):
        loss = functional.binary_cross_entropy_with_logits(rows @ coefficients, labels)
        (gradient,) = torch.autograd.grad(loss, coefficients)
        with torch.no_grad():
            coefficients -= DESCENT_RATE * gradient
    return coefficients.detach().numpy()


def descend_lean(
    differences: Float64[np.ndarray, "comparisons basis"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    rng: np.random.Generator,
) -> Float64[np.ndarray, " basis"]:
    """The same steps with the gradient written out in numpy: the least that 5,000 steps cost in Python."""
    coefficients = rng.standard_normal(differences.shape[1])
    for _ in range(DESCENT_STEPS):
        residuals = 1.0 / (1.0 + np.exp(-(differences @ coefficients))) - first_preferred
        coefficients = coefficients - DESCENT_RATE * (differences.T @ residuals) / len(residuals)
    return np.asarray(coefficients, dtype=np.float64)


def choose_one_by_one(
    coefficients: Float64[np.ndarray, " basis"],
    asked: Float64[np.ndarray, "asked basis"],
    differences: Float64[np.ndarray, "pairs basis"],
) -> int:
    """The published choice: squared answer variance times squared norm in the inverse curvature, pair after pair."""
    curvature = RIDGE * np.eye(len(coefficients))
    for row in asked:
        slope = 1.0 / (1.0 + np.exp(-(row @ coefficients)))
        curvature += slope * (1.0 - slope) * np.outer(row, row)
    inverse = np.linalg.inv(curvature)
    gains = np.empty(len(differences))
    for index, row in enumerate(differences):
        slope = 1.0 / (1.0 + np.exp(-(row @ coefficients)))
        gains[index] = (slope * (1.0 - slope)) ** 2 * (row @ inverse @ row)
    return int(np.argmax(gains))
