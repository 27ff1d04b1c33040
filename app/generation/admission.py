"""A gate in front of a shared engine: bounded places, a bounded queue, and turns shared evenly between tenants.

Runs on one event loop. Knows nothing of models or HTTP; deadlines are the caller's, by ``asyncio.timeout`` around it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.errors import EngineOverloaded, Unavailable
from app.generation.fair_queue import FairQueue


@dataclass(eq=False)
class _Ticket:
    """One call; ``turn`` becomes True when it may enter, False when it has to leave the queue."""

    places: int
    turn: asyncio.Future[bool]
    inside: bool = False


class FairGate:
    """Lets calls in while they find places; those that wait enter in the order of a ``FairQueue``.

    So tenants that always have calls waiting get equal cost through, however many calls each of them sends. No call
    overtakes one that is next but does not fit yet, so large calls are not starved. Where the queue is full, the newest
    call of the tenant with most calls in it has to go: nobody can keep others out.
    """

    def __init__(self, *, places: int, queue_size: int) -> None:
        """Open a gate.

        Args:
            places: What may be inside at a time, at least 1; the caller decides what a place is.
            queue_size: Calls that may wait.
        """
        self.places, self.queue_size = places, queue_size
        self._used = 0
        self._waiting: FairQueue[_Ticket] = FairQueue()
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def queue_length(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    @property
    def used(self) -> int:
        """Places taken."""
        return self._used

    @property
    def accepting(self) -> bool:
        """Whether calls are still let into the queue."""
        return not self._closing

    @asynccontextmanager
    async def admit(self, tenant: str, *, places: int = 1, cost: float = 1.0) -> AsyncIterator[int]:
        """Wait for a turn and hold places inside the block; yields how many places are held.

        Leaving the block, or being cancelled while waiting, frees everything at once.

        Args:
            tenant: Whose turn this takes.
            places: Places wanted, at least 1; more than the gate has are cut to all of them.
            cost: How much of the tenant's share the call uses, above 0, in a unit common to all calls.

        Raises:
            EngineOverloaded: If the queue is full.
            Unavailable: If the gate is closing.
        """
        if self._closing:
            raise Unavailable("The engine is shutting down; try again on another instance.")
        ticket = _Ticket(min(places, self.places), asyncio.get_running_loop().create_future())
        self._enqueue(ticket, tenant, cost)
        try:
            if not await ticket.turn:
                raise EngineOverloaded(self.queue_length)
            yield ticket.places
        finally:
            self._leave(ticket)

    async def close(self, seconds: float) -> bool:
        """Refuse calls from now on, and wait for those already here; returns whether all of them left in time."""
        self._closing = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _enqueue(self, ticket: _Ticket, tenant: str, cost: float) -> None:
        self._empty.clear()
        self._waiting.put(ticket, tenant, cost)
        self._let_in()
        if self.queue_length > self.queue_size:
            _tell(self._waiting.drop_newest(tenant), enters=False)

    def _let_in(self) -> None:
        """Admit as many calls as fit, in their order."""
        while (ticket := self._waiting.peek()) is not None and self._used + ticket.places <= self.places:
            self._waiting.take()
            self._used += ticket.places
            ticket.inside = True
            _tell(ticket, enters=True)

    def _leave(self, ticket: _Ticket) -> None:
        if ticket.inside:
            self._used -= ticket.places
        else:
            self._waiting.discard(ticket)
        self._let_in()
        if not self._used and not self._waiting:
            self._waiting = FairQueue()  # nobody is owed anything, and no tenant need be remembered
            self._empty.set()


def _tell(ticket: _Ticket, *, enters: bool) -> None:
    """Decide about a call, unless it was cancelled in this very turn of the event loop: then it leaves by itself."""
    if not ticket.turn.done():
        ticket.turn.set_result(enters)
