"""The ways to answer that are compared, and with whose coefficients. Numbers and names only."""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from app.entities import Guidance, Steering, SteeringKind
from app.errors import InvalidInput

Mode = Literal["off", "best_of_n", "guided"]
Knowledge = Literal["answers", "full", "swapped", "reversed"]
MEANING: dict[Knowledge, str] = {
    "answers": "own answers",
    "full": "taste fully known",
    "swapped": "control: another person's answers",
    "reversed": "control: own coefficients, reversed",
}


@dataclass(frozen=True)
class Arm:
    """One way to answer: ``n`` candidates, how they are steered, and when the hopeless ones are stopped.

    A name is unique. ``strength``, ``block_tokens``, ``continuations`` and ``drop_below`` are those of ``Steering``.
    """

    name: str
    n: int = 1
    guidance: Guidance = "none"
    strength: float = 1.0
    drop_below: float = 0.0
    block_tokens: int = 16
    continuations: int = 4

    @property
    def mode(self) -> Mode:
        """The mode of the service that answers so."""
        if self.guidance != "none":
            return "guided"
        return "off" if self.n == 1 else "best_of_n"

    @property
    def servable(self) -> bool:
        """Whether its name in ``FrontierPoint`` says it all: guidance at strength 1, blocks of the usual size."""
        usual = Arm(self.name, self.n, self.guidance, drop_below=self.drop_below)
        return self == usual

    @property
    def needs(self) -> frozenset[SteeringKind]:
        """What the engine must be able to do."""
        return self.steering(np.zeros(0)).kinds

    @property
    def plain(self) -> bool:
        """Whether its candidates are those of plain sampling, the same for everybody."""
        return not self.needs

    def steering(self, coefficients: Float64[np.ndarray, " basis"]) -> Steering:
        """What goes to the engine for a person with these coefficients."""
        return Steering(
            tuple(coefficients.tolist()),
            self.guidance,
            self.strength,
            self.block_tokens,
            self.continuations,
            self.drop_below,
        )


@dataclass(frozen=True)
class Cell:
    """One way to answer with coefficients that are known in one way."""

    arm: Arm
    known: Knowledge = "answers"

    @property
    def name(self) -> str:
        """Unique among cells."""
        return self.arm.name if self.known == "answers" else f"{self.arm.name} / {self.known}"


OFF = Arm("off")
BEST = {n: Arm(f"best of {n}", n) for n in (2, 4, 8, 16, 32, 64)}
EARLY = tuple(
    Arm(f"best of {n}, dropped below {chance:g}", n, drop_below=chance)
    for n, chance in ((16, 0.02), (16, 0.05), (16, 0.1), (24, 0.05), (24, 0.1), (32, 0.1))
)
BLOCK = tuple(Arm(f"block-wise, {m} continuations", guidance="block", continuations=m) for m in (2, 4))
TOKEN = {strength: Arm(f"token-level, strength {strength:g}", 1, "token", strength) for strength in (0.5, 1.0, 2.0)}
BOTH = {
    strength: Arm(f"token-level, strength {strength:g}, best of 4", 4, "token", strength) for strength in (0.5, 1.0)
}
GUIDED_EARLY = Arm("token-level, strength 1, best of 8, dropped below 0.05", 8, "token", drop_below=0.05)
BASELINE = BEST[16]
ARMS = (OFF, *BEST.values(), *EARLY, *BLOCK, *TOKEN.values(), *BOTH.values(), GUIDED_EARLY)
CONTROLLED = (BEST[16], TOKEN[1.0], BOTH[1.0])


def standard_cells() -> tuple[Cell, ...]:
    """All ways to answer from a person's answers; some with full knowledge, as a ceiling, and as controls."""
    others: tuple[Knowledge, ...] = ("full", "swapped", "reversed")
    return (*(Cell(arm) for arm in ARMS), *(Cell(arm, known) for known in others for arm in CONTROLLED))


def matching_cells(pattern: str | None) -> tuple[Cell, ...]:
    """The standard cells whose name matches, besides the plain answer and best of 8 and 16, which others need.

    Raises:
        InvalidInput: If the pattern is no regular expression.
    """
    if pattern is None:
        return standard_cells()
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise InvalidInput(f"--only is no regular expression: {error}.") from error
    always = {Cell(arm).name for arm in (OFF, BEST[8], BASELINE)}
    return tuple(cell for cell in standard_cells() if cell.name in always or found.search(cell.name))
