"""How likely an answer is at a given margin, and how fast that changes. Knows margins, not coefficients.

One formula serves every ``ResponseModel``. With ``d = exp(-|m| / 2)`` and Davidson's ``nu`` (0 if ties are half
answers), the likelier side, the other side and a tie have probabilities as ``1 : d² : nu d``, which never overflow.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.answers import ResponseModel


@dataclass(frozen=True)
class Terms:
    """For every answer: its loss in nats, the loss's slope along the margin, and the information about the margin.

    ``information`` is the expected (Fisher) curvature: the loss's second derivative without lapses, and never negative.
    """

    losses: Float64[np.ndarray, " comparisons"]
    slopes: Float64[np.ndarray, " comparisons"]
    information: Float64[np.ndarray, " comparisons"]


def log_likelihood(
    margins: Float64[np.ndarray, "comparisons *others"],
    first_preferred: Float64[np.ndarray, "comparisons *ones"],
    response: ResponseModel,
) -> Float64[np.ndarray, "comparisons *others"]:
    """Log-probability of each answer in nats, before the ``exponent``; never minus infinity.

    Args:
        margins: Log-odds of the first candidate; any trailing axes, to compare many coefficient vectors at once.
        first_preferred: The answers, with as many axes as ``margins``, of length one after the first.
        response: Lapses and ties. An answer counted half for each side has half of each side's log-probability.

    Source:
        Davidson (1970), eq. 2.3.
    """
    strength = response.tie_strength or 0.0
    distance = 0.5 * np.abs(margins)
    decay = np.exp(-distance)
    log_total = np.log1p(decay * (decay + strength))
    if response.lapse == 0.0:
        plain = (first_preferred - 0.5) * margins - distance - log_total
        return np.asarray(plain + _sides(first_preferred, response)[2] * _log_strength(response), dtype=np.float64)
    first, second, tie = _sides(first_preferred, response)
    likely = np.exp(-log_total)
    unlikely = decay * decay * likely
    ahead = margins >= 0.0
    losses = first * np.log(_lapsed(np.where(ahead, likely, unlikely), response))
    losses += second * np.log(_lapsed(np.where(ahead, unlikely, likely), response))
    log_tie = np.log1p(-response.lapse) + _log_strength(response) - distance - log_total
    return np.asarray(losses + tie * log_tie, dtype=np.float64)


def answer_terms(
    margins: Float64[np.ndarray, " comparisons"],
    first_preferred: Float64[np.ndarray, " comparisons"],
    response: ResponseModel,
) -> Terms:
    """Loss, slope and information of each answer at its margin, before weights and the ``exponent``.

    Slopes are sums of tails: they keep their relative precision where the answer is nearly certain.
    """
    strength = response.tie_strength or 0.0
    decay = np.exp(-0.5 * np.abs(margins))
    likely = 1.0 / (1.0 + decay * (decay + strength))
    tie = strength * decay * likely
    unlikely = decay * decay * likely
    ahead = margins >= 0.0
    first, second = np.where(ahead, likely, unlikely), np.where(ahead, unlikely, likely)
    losses = -log_likelihood(margins, first_preferred, response)
    rise, fall = second + 0.5 * tie, first + 0.5 * tie  # of log first and of log second, along the margin
    if response.lapse == 0.0:
        slopes = (1.0 - first_preferred) * fall - first_preferred * rise
        return Terms(losses, slopes, first * second + 0.25 * tie * (first + second))
    kept = 1.0 - response.lapse
    on_first, on_second, on_tie = _sides(first_preferred, response)
    rise, fall = kept * first * rise, kept * second * fall
    odds_first, odds_second = rise / _lapsed(first, response), fall / _lapsed(second, response)
    apart = 0.5 * (first - second)
    slopes = on_second * odds_second - on_first * odds_first + on_tie * apart
    return Terms(losses, slopes, rise * odds_first + fall * odds_second + kept * tie * apart * apart)


def _sides(
    first_preferred: Float64[np.ndarray, "*shape"], response: ResponseModel
) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"] | float]:
    """How much each answer counts for the first side, the second side and a tie; they add up to one."""
    if response.tie_strength is None:
        return first_preferred, 1.0 - first_preferred, 0.0
    lean = 2.0 * first_preferred - 1.0
    return np.maximum(lean, 0.0), np.maximum(-lean, 0.0), 1.0 - np.abs(lean)


def _lapsed(probabilities: Float64[np.ndarray, "*shape"], response: ResponseModel) -> Float64[np.ndarray, "*shape"]:
    """Probability of a side if some answers are coin flips."""
    return 0.5 * response.lapse + (1.0 - response.lapse) * probabilities


def _log_strength(response: ResponseModel) -> float:
    """Logarithm of Davidson's nu; zero if ties are half answers, which then have no probability of their own."""
    return 0.0 if response.tie_strength is None else float(np.log(response.tie_strength))
