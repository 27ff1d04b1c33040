"""How long decoding takes by the number of rows decoded together, as measured lately."""

from app.entities import DecodingSpeed

_LEAST_SQUARES = 1.0


class SpeedMeter:
    """Exponential averages of step times and rows, and the line through them.

    The slope stays as it was while all notes have about the same rows, which tell nothing of it.
    """

    def __init__(self, memory: float = 0.95) -> None:
        """Start without notes; each new one makes the old ones count ``memory`` times as much as before."""
        self._memory = memory
        self._weight = self._rows = self._seconds = self._squares = self._products = self._slope = 0.0

    def note(self, rows: int, seconds: float) -> None:
        """One step of ``rows`` rows took ``seconds``."""
        self._weight = self._memory * self._weight + 1
        to_rows, to_seconds = rows - self._rows, seconds - self._seconds
        self._rows += to_rows / self._weight
        self._seconds += to_seconds / self._weight
        self._squares = self._memory * self._squares + to_rows * (rows - self._rows)
        self._products = self._memory * self._products + to_rows * (seconds - self._seconds)
        if self._squares >= _LEAST_SQUARES:
            self._slope = self._products / self._squares

    @property
    def speed(self) -> DecodingSpeed | None:
        """The line, with neither part below zero; None before the first note."""
        if not self._weight:
            return None
        row = min(max(self._slope, 0.0), self._seconds / max(self._rows, 1.0))
        return DecodingSpeed(step=max(0.0, self._seconds - row * self._rows), row=row)


class StepTimes(SpeedMeter):
    """A meter for the steps of a running batch, hundreds a second."""

    def __init__(self) -> None:
        super().__init__(memory=0.995)
