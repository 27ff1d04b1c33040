"""One thread that owns the model, behind a bounded queue that the event loop awaits.

Work runs strictly one piece at a time, in the order it came. Knows nothing of models, tokens or torch.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from app.errors import EngineOverloaded, EngineTimeout, Unavailable

Result = TypeVar("Result")
Check = Callable[[], None]
Work = Callable[[Check], Result]


class Abandoned(Exception):
    """Raised by a check inside the worker to end work that nobody waits for; it never reaches a caller."""


class _Job(Generic[Result]):
    def __init__(self, work: Work[Result]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()
        self.abandoned = threading.Event()

    def check(self) -> None:
        if self.abandoned.is_set():
            raise Abandoned

    def execute(self) -> Callable[[], None]:
        """Run in the worker thread; returns what hands the outcome over to the event loop."""
        try:
            self.check()
            result = self.work(self.check)
        except Abandoned:
            return lambda: None
        except Exception as error:  # the worker loop: whatever happened belongs to the caller who waits
            return partial(self._deliver, partial(self.future.set_exception, error))
        return partial(self._deliver, partial(self.future.set_result, result))

    def _deliver(self, settle: Callable[[], None]) -> None:
        try:
            self.loop.call_soon_threadsafe(lambda: None if self.future.done() else settle())
        except RuntimeError:  # the caller's event loop is closed: nobody waits
            self.abandoned.set()


class EngineWorker:
    """Runs work in its own thread; at most ``queue_size`` pieces wait while one runs."""

    def __init__(self, *, queue_size: int, timeout_seconds: float) -> None:
        self.queue_size, self.timeout_seconds = queue_size, timeout_seconds
        self._waiting: deque[_Job[Any]] = deque()
        self._running: _Job[Any] | None = None
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="attune-engine", daemon=True)
        self._thread.start()

    @property
    def queue_length(self) -> int:
        """Pieces of work that wait; the running one does not count."""
        return len(self._waiting)

    @property
    def accepting(self) -> bool:
        """Whether the thread lives and takes on work."""
        return self._thread.is_alive() and not self._closing

    async def run(self, work: Work[Result], *, timeout_seconds: float | None = None) -> Result:
        """The result of ``work``, computed in the worker's thread; what it raises is raised here.

        ``work`` is given a function that it must call now and then between steps: it raises when the caller has been
        cancelled or its time is over. A piece that waits then leaves the queue at once.

        Args:
            work: What to compute.
            timeout_seconds: Deadline for waiting and computing together; None means the worker's own.

        Raises:
            EngineOverloaded: If the queue is full.
            EngineTimeout: If the deadline passes.
            Unavailable: If the worker is closing.
        """
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        job = _Job(work)
        self._enqueue(job)
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await job.future
        except TimeoutError as error:
            if deadline.expired():
                raise EngineTimeout(seconds) from error
            raise
        finally:
            self._release(job)

    async def close(self) -> None:
        """Accept no more work, finish what was accepted, and end the thread.

        Work that is not finished after ``timeout_seconds`` is abandoned; its callers see ``EngineTimeout``.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join, self.timeout_seconds)
        with self._changed:
            for job in (*self._waiting, *([self._running] if self._running else [])):
                job.abandoned.set()
        await asyncio.to_thread(self._thread.join)

    def _enqueue(self, job: _Job[Any]) -> None:
        with self._changed:
            if self._closing:
                raise Unavailable("The engine is shutting down; try again on another instance.")
            if len(self._waiting) + (self._running is not None) > self.queue_size:
                raise EngineOverloaded(len(self._waiting))
            self._waiting.append(job)
            self._changed.notify_all()

    def _release(self, job: _Job[Any]) -> None:
        """Nobody waits for ``job`` any more: take it out of the queue, or tell the running work to stop."""
        job.abandoned.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            deliver = job.execute()
            with self._changed:
                self._running = None
            deliver()  # only now, so that a caller who continues finds the place free

    def _next(self) -> _Job[Any] | None:
        """The next piece of work, waited for; None when the worker closes and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._running = self._waiting.popleft() if self._waiting else None
            return self._running
