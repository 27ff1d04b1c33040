"""What a person answered, as arrays, and how answers follow from margins. Knows nothing of coefficients' beliefs."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True)
class Answers:
    """A person's comparisons: ``differences`` (N, K), ``first_preferred`` (N,), ``weights`` (N,).

    ``first_preferred`` is 1.0 where the first candidate was preferred, 0.0 where the second, 0.5 for a tie.
    ``weights`` are how many full answers each one counts for: 1 unless it is old or noisy. Order does not matter.
    """

    differences: Float64[np.ndarray, "comparisons basis"]
    first_preferred: Float64[np.ndarray, " comparisons"]
    weights: Float64[np.ndarray, " comparisons"]

    @classmethod
    def of(
        cls,
        differences: Float64[np.ndarray, "comparisons basis"],
        first_preferred: Float64[np.ndarray, " comparisons"],
        weights: Float64[np.ndarray, " comparisons"] | None = None,
    ) -> "Answers":
        """Answers that all count fully unless ``weights`` says otherwise."""
        return cls(differences, first_preferred, np.ones(len(first_preferred)) if weights is None else weights)

    def __len__(self) -> int:
        return len(self.first_preferred)


@dataclass(frozen=True)
class ResponseModel:
    """How an answer follows from a margin m in log-odds.

    ``exponent`` is a power of the likelihood: below 1 it corrects the over-confidence that active questions leave.
    ``lapse`` is the chance that an answer is a coin flip: P(first) = lapse / 2 + (1 - lapse) sigmoid(m).
    ``tie_strength`` is Davidson's nu: P(tie) is nu against exp(m / 2) and exp(-m / 2) for the sides; None counts a tie
    as half an answer for each side.

    Source:
        Davidson, On Extending the Bradley-Terry Model to Accommodate Ties (1970), eq. 2.3.
    """

    exponent: float = 1.0
    lapse: float = 0.0
    tie_strength: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.exponent < np.inf:
            raise ValueError(f"exponent is {self.exponent}; it must be zero or positive, and finite.")
        if not 0.0 <= self.lapse < 1.0:
            raise ValueError(f"lapse is {self.lapse}; it must be zero or more and below one.")
        if self.tie_strength is not None and not 0.0 < self.tie_strength < np.inf:
            raise ValueError(f"tie_strength is {self.tie_strength}; it must be positive and finite, or None.")


def recency_weights(
    ages_days: Float64[np.ndarray, " comparisons"], half_life_days: float | None
) -> Float64[np.ndarray, " comparisons"]:
    """Weights that halve every ``half_life_days``, for tastes that drift: ``2 ** (-age / half life)``.

    Args:
        ages_days: Age of each answer in days, not negative.
        half_life_days: Age at which an answer counts half; None counts all of them fully.

    Returns:
        Weights (N,) in [0, 1]; an answer thousands of half-lives old has weight zero and is left out of the fit.

    Raises:
        ValueError: If an age is negative or not a number, or the half-life is not positive.
    """
    if not (ages_days >= 0.0).all():
        raise ValueError("An age is negative or not a number; pass days from the answer until now.")
    if half_life_days is None:
        return np.ones(len(ages_days))
    if not half_life_days > 0.0:
        raise ValueError(f"half_life_days is {half_life_days}; it must be positive, or None to keep every answer.")
    return np.asarray(np.exp2(-ages_days / half_life_days), dtype=np.float64)
