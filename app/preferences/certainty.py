"""How well a person is known, as one number. Knows nothing of what it is compared with."""

import numpy as np
from jaxtyping import Float64

from app.preferences.gaussian import Posterior
from app.preferences.logistic import preference_probability


def certainty(posterior: Posterior, reference: Float64[np.ndarray, "pairs basis"], scale: float = 1.0) -> float:
    """Expected accuracy of predicting the person's choice on a fresh pair, rescaled so that 0 is a coin flip.

    Predicting the likelier side of a pair is right with probability max(P, 1 - P), that is (1 + |2P - 1|) / 2; the
    certainty is the mean of |2P - 1| over the reference pairs, times ``scale``, at most 1.

    Args:
        posterior: Belief about the coefficients.
        reference: Differences (R, K) between responses as the service really serves them, R >= 1.
        scale: Accuracy realised on held-out people over the accuracy claimed, as ``fit_certainty_scale`` returns it.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If there is no reference pair, a row is not finite or has another K, or ``scale`` is not a
            number at or above zero.
    """
    if len(reference) == 0:
        raise ValueError("certainty is an average over reference pairs; pass at least one.")
    if not 0.0 <= scale < np.inf:
        raise ValueError(f"scale is {scale}; it must be zero or positive, and finite.")
    decided = np.abs(2.0 * preference_probability(posterior, reference) - 1.0)
    return float(np.clip(scale * decided.mean(), 0.0, 1.0))
