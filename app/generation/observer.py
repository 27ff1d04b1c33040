"""What an engine tells of its work while it goes on, for metrics. Knows no metrics library.

Calls come from the engine's own thread, once a step or once a request, and must return at once.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Float64


class EngineObserver(Protocol):
    """Somebody who counts what an engine does; whatever it raises ends the work it was told of."""

    def on_step(self, rows: int, tokens: int, seconds: float) -> None:
        """One decoding step of ``rows`` live candidates appended ``tokens`` tokens and took ``seconds``."""

    def on_discard(self, tokens: int) -> None:
        """So many tokens were generated for nothing: a candidate was dropped, or another block went on."""

    def on_reuse(self, tokens: int) -> None:
        """So many tokens of a prompt were known from an earlier one."""

    def on_reward(self, values: Float64[np.ndarray, "candidates basis"]) -> None:
        """Basis rewards of the candidates of one request, dropped ones included."""


class Unobserved:
    """The observer that takes no notes."""

    def on_step(self, rows: int, tokens: int, seconds: float) -> None:
        """Do nothing."""

    def on_discard(self, tokens: int) -> None:
        """Do nothing."""

    def on_reuse(self, tokens: int) -> None:
        """Do nothing."""

    def on_reward(self, values: Float64[np.ndarray, "candidates basis"]) -> None:
        """Do nothing."""
