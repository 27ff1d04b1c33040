"""Until when one call may take, enforced piece by piece, since no limit may span the yields of a generator."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.entities import Caller
from app.errors import EngineTimeout


@dataclass(frozen=True)
class Deadline:
    """``until`` is on ``time.monotonic``; the call has ``seconds`` in all."""

    until: float
    seconds: float

    @classmethod
    def of(cls, caller: Caller, most: float) -> "Deadline":
        """The deadline of a call that begins now, and takes at most ``most`` seconds."""
        seconds = most if caller.timeout_seconds is None else max(0.0, min(most, caller.timeout_seconds))
        return cls(time.monotonic() + seconds, seconds)

    @asynccontextmanager
    async def enforced(self) -> AsyncIterator[None]:
        """End the block at the deadline; raises ``EngineTimeout``. No generator may yield to its caller inside."""
        limit = asyncio.timeout(self.until - time.monotonic())
        try:
            async with limit:
                yield
        except TimeoutError as error:
            if limit.expired():
                raise EngineTimeout(self.seconds) from error
            raise
