"""When a questionnaire ends, and how long it will still take. Knows only counts, certainties and bits."""

from math import ceil
from typing import Literal

MINIMUM_INFORMATION_BITS = 0.02
MINIMUM_CHANGE = 0.05
"""Chance of another best candidate below which further questions are not worth a person's time."""


def stop_reason(
    *,
    answered: int,
    max_questions: int,
    certainty: float,
    target_certainty: float | None,
    best_information_bits: float | None,
    minimum_information_bits: float = MINIMUM_INFORMATION_BITS,
    change: float | None = None,
    minimum_change: float = MINIMUM_CHANGE,
) -> Literal["max_questions", "target_certainty", "low_information", "pool_exhausted"] | None:
    """Why to ask nothing more, or None to go on; of several reasons, the first in the order of the return type.

    Args:
        answered: Questions answered so far, skips included.
        max_questions: Most questions to ask.
        certainty: Certainty after these answers, in [0, 1].
        target_certainty: Certainty that is enough; None asks on.
        best_information_bits: What the best remaining pair is expected to tell; None if no pair remains.
        minimum_information_bits: Below this a question is not worth a person's time.
        change: How likely knowing the person fully would change what they are served, as ``change_probability``
            gives it; None does not ask.
        minimum_change: Below this, too, no question is worth a person's time.
    """
    if answered >= max_questions:
        return "max_questions"
    if target_certainty is not None and certainty >= target_certainty:
        return "target_certainty"
    if best_information_bits is None:
        return "pool_exhausted"
    if best_information_bits < minimum_information_bits or (change is not None and change < minimum_change):
        return "low_information"
    return None


def expected_remaining(
    *,
    answered: int,
    max_questions: int,
    certainty: float,
    initial_certainty: float,
    target_certainty: float | None = None,
) -> int:
    """How many questions are still to come, the one on the screen included.

    Without a target, all up to ``max_questions``. With one, the certainty still missing divided by the certainty
    gained per answer so far, never more than ``max_questions`` leaves and never less than one before the target.
    Certainty gains shrink as answers accumulate, so the estimate is on the short side.

    Args:
        answered: Questions answered so far, skips included.
        max_questions: Most questions to ask.
        certainty: Certainty after these answers, in [0, 1].
        initial_certainty: Certainty before the first of them, in [0, 1].
        target_certainty: Certainty that is enough; None asks on.
    """
    left = max(max_questions - answered, 0)
    if target_certainty is None:
        return left
    missing = target_certainty - certainty
    if missing <= 0.0:
        return 0
    gained = certainty - initial_certainty
    if answered == 0 or gained * left <= missing * answered:  # at this pace the target is out of reach
        return left
    return min(left, ceil(missing * answered / gained))
