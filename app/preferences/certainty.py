"""How well a person is known, as one number that means what it says. Knows nothing of what it is compared with."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from app.preferences.belief import Belief
from app.preferences.logistic import preference_probability

BINS = 12
IDENTITY_CHOICES = 50.0  # weight of the claim itself in each bin, in choices: what a claim is trusted without data


@dataclass(frozen=True, eq=False)
class CertaintyCurve:
    """Map from claimed to realised certainty: straight lines between knots (``raw``, ``realised``), both (knots,).

    Raises:
        ValueError: If there is no knot, a value is outside [0, 1], ``raw`` does not rise or ``realised`` falls.
    """

    raw: Float64[np.ndarray, " knots"]
    realised: Float64[np.ndarray, " knots"]

    def __post_init__(self) -> None:
        if self.raw.ndim != 1 or len(self.raw) == 0 or self.raw.shape != self.realised.shape:
            raise ValueError(f"raw is {self.raw.shape} and realised {self.realised.shape}; pass one of each a knot.")
        values = np.concatenate([self.raw, self.realised])
        if not ((values >= 0.0) & (values <= 1.0)).all():
            raise ValueError("Knots of a certainty curve must lie between 0 (a coin flip) and 1 (always right).")
        if not ((np.diff(self.raw) > 0.0).all() and (np.diff(self.realised) >= 0.0).all()):
            raise ValueError("raw must rise from knot to knot and realised must not fall; sort and pool the knots.")

    @classmethod
    def identity(cls) -> "CertaintyCurve":
        """The curve that takes every claim at its word."""
        return cls(np.array([0.0, 1.0]), np.array([0.0, 1.0]))

    def __call__(self, raw: float) -> float:
        """Certainty realised where ``raw`` was claimed, in [0, 1]; level before the first and after the last knot."""
        return float(np.interp(raw, self.raw, self.realised))


def certainty(
    belief: Belief, reference: Float64[np.ndarray, "pairs basis"], curve: CertaintyCurve | None = None
) -> float:
    """Expected accuracy of predicting the person's choice on a fresh pair, rescaled so that 0 is a coin flip.

    Predicting the likelier side of a pair is right with probability max(P, 1 - P), that is (1 + |2P - 1|) / 2; the
    raw certainty is the mean of |2P - 1| over the reference pairs, and ``curve`` makes it come true.

    Args:
        belief: Belief about the coefficients.
        reference: Differences (R, K) between responses as the service really serves them, R >= 1.
        curve: What claims of this size came to on held-out people; None takes the belief at its word.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If there is no reference pair, or a row is not finite or has another K.
    """
    if len(reference) == 0:
        raise ValueError("certainty is an average over reference pairs; pass at least one.")
    raw = float(np.abs(2.0 * preference_probability(belief, reference) - 1.0).mean())
    return raw if curve is None else curve(raw)


def fit_certainty_curve(
    raw: Float64[np.ndarray, " stages"],
    realised: Float64[np.ndarray, " stages"],
    choices: Float64[np.ndarray, " stages"],
) -> CertaintyCurve:
    """Fit the rising curve through what claims came to, by pooling adjacent violators over bins of equal weight.

    Args:
        raw: Certainty claimed of a held-out person at some stage (M,), in [0, 1].
        realised: Rescaled accuracy that came true on fresh choices of that person (M,), in [-1, 1].
        choices: How many choices stand behind each ``realised`` (M,), not negative.

    Returns:
        The curve through zero, and level with the last bin's ratio of realised to claimed up to one. Each bin counts
        ``IDENTITY_CHOICES`` choices that came out as claimed, so that little data changes little; none, nothing.

    Raises:
        ValueError: If the lengths differ or a value is out of its range.
    Source:
        Ayer et al., An Empirical Distribution Function for Sampling with Incomplete Information (1955), for pooling.
    """
    _check_stages(raw, realised, choices)
    used = choices > 0.0
    if not used.any():
        return CertaintyCurve.identity()
    order = np.flatnonzero(used)[np.argsort(raw[used], kind="stable")]
    weights = choices[order]
    middle = np.cumsum(weights) - 0.5 * weights
    bins = np.minimum((BINS * middle / weights.sum()).astype(np.int64), BINS - 1)
    totals = np.bincount(bins, weights, BINS)
    filled = totals > 0.0
    claimed = np.bincount(bins, weights * raw[order], BINS)[filled] / totals[filled]
    came_true = np.bincount(bins, weights * realised[order], BINS)[filled] / totals[filled]
    counts = totals[filled] + IDENTITY_CHOICES
    shrunk = (totals[filled] * came_true + IDENTITY_CHOICES * claimed) / counts
    return _through_zero_and_one(claimed, np.clip(_pooled(shrunk, counts), 0.0, 1.0))


def _check_stages(raw: np.ndarray, realised: np.ndarray, choices: np.ndarray) -> None:
    """Refuse stages that are no certainties."""
    if not raw.shape == realised.shape == choices.shape:
        raise ValueError(f"{raw.shape} claims, {realised.shape} outcomes, {choices.shape} counts; pass one for each.")
    if not ((raw >= 0.0) & (raw <= 1.0 + 1e-9)).all():
        raise ValueError("A claimed certainty is outside [0, 1]; pass means of |2P - 1|.")
    if not ((np.abs(realised) <= 1.0 + 1e-9) & (choices >= 0.0)).all():
        raise ValueError("A realised certainty is outside [-1, 1] or a count is negative; pass 2 * accuracy - 1.")


def _pooled(
    values: Float64[np.ndarray, " bins"], weights: Float64[np.ndarray, " bins"]
) -> Float64[np.ndarray, " bins"]:
    """The closest values that never fall, in weighted squares: neighbours that fall are replaced by their mean."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, bins
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] >= pool[0]:
            mean, mass, count = pools.pop()
            total = mass + pool[1]
            pool = ((mass * mean + pool[1] * pool[0]) / total, total, count + pool[2])
        pools.append(pool)
    return np.repeat([mean for mean, _, _ in pools], [count for _, _, count in pools])


def _through_zero_and_one(
    claimed: Float64[np.ndarray, " bins"], realised: Float64[np.ndarray, " bins"]
) -> CertaintyCurve:
    """The curve through zero, the bins, and one: there the last bin's ratio of realised to claimed holds."""
    last = float(np.clip(realised[-1] / max(claimed[-1], 1e-9), 0.0, 1.0))
    raw = np.concatenate([[0.0], np.clip(claimed, 0.0, 1.0), [1.0]])
    values = np.concatenate([[0.0], realised, [max(last, realised[-1])]])
    distinct = np.concatenate([np.diff(raw) > 1e-9, [True]])  # of equal knots, the last and highest stays
    return CertaintyCurve(raw[distinct], values[distinct])
