"""What turns texts into the features that basis rewards are linear in, as a Protocol. Needs no torch.

The same trunk serves both sides of a pair, in training and in serving.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from app.entities import Conversation

Row = tuple[Conversation, str]
"""A conversation that ends before the response, and the response's text."""

RESPONSE_MEAN = "response_mean"
POOLINGS = (RESPONSE_MEAN, "last_token", "mean", "first_token")
"""Mean over the response's tokens; its last token; mean over all tokens, and the first token (encoders only)."""


def proceed() -> None:
    """The check that never stops anything."""


class Trunk(Protocol):
    """A frozen network with its tokenizer and its way of pooling."""

    @property
    def pooling(self) -> str:
        """One of ``POOLINGS``."""

    @property
    def fingerprint(self) -> str:
        """Hash over weights, sizes, tokenizer and chat template: the same features come from the same fingerprint."""

    @property
    def context(self) -> int:
        """Tokens that conversation and response share."""

    @property
    def hidden(self) -> int:
        """Number of features of a text."""

    def token_counts(self, rows: Sequence[Row]) -> Int64[np.ndarray, " rows"]:
        """Tokens of each row; a row with more than ``context`` has features only if it is truncated."""

    def prompt_count(self, conversation: Conversation) -> int:
        """Tokens that every row of this conversation has besides those of its response."""

    def features(
        self, rows: Sequence[Row], *, check: Callable[[], None] = proceed, truncate: bool = False
    ) -> Float32[np.ndarray, "rows hidden"]:
        """Pooled hidden states of each row.

        Args:
            rows: Conversations and responses; their order and number do not change a row's features.
            check: Called before every forward pass; whatever it raises ends the computation.
            truncate: Leave out the end of a response that exceeds the context, instead of refusing it.

        Raises:
            PromptTooLong: If a row exceeds the context, or a conversation alone; nothing is computed then.
        """
