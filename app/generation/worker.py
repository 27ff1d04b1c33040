"""One thread that owns the model, behind a bounded queue that the event loop awaits.

Two kinds of work share the thread. Pieces of work run one at a time. Items of a batch are decoded together, a step at
a time; between two steps others join, a piece of work runs, and items that nobody waits for leave. Work that checks in
now and then lets the batch take a step each time, so that neither side starves the other. Knows nothing of models,
tokens or torch.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from app.entities import ANYBODY, Caller
from app.errors import EngineOverloaded, EngineTimeout, Unavailable
from app.generation.fair_queue import FairQueue

Result = TypeVar("Result")
Check = Callable[[], None]
Work = Callable[[Check], Result]


class Abandoned(Exception):
    """Raised by a check inside the worker to end work that nobody waits for; it never reaches a caller."""


class Batch(Protocol):
    """Items that are decoded together, by the worker's thread alone."""

    def accepts(self, rows: int) -> bool:
        """Whether an item of so many rows may start now."""

    def start(self, item: Any) -> None:
        """Let the item join with the next step; an exception leaves the batch as it was."""

    def drop(self, item: Any) -> None:
        """Forget the item, wherever it is."""

    def step(self, attempt: Callable[[Any, Callable[[], None]], bool]) -> list[Any]:
        """Advance all items, doing what concerns one of them alone by ``attempt``; returns the finished ones."""

    def reset(self) -> None:
        """Drop everything."""


class _Job(Generic[Result]):
    """Something a caller waits for. ``prepare`` is None for a piece of work; otherwise it makes the batch's item."""

    def __init__(self, work: Work[Result], prepare: Callable[[], Any] | None = None, rows: int = 0) -> None:
        self.work, self.prepare, self.rows = work, prepare, rows
        self.item: Any = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()
        self.abandoned = threading.Event()

    def deliver(self, settle: Callable[[], None]) -> None:
        """Hand the outcome over to the event loop."""
        try:
            self.loop.call_soon_threadsafe(lambda: None if self.future.done() else settle())
        except RuntimeError:  # the caller's event loop is closed: nobody waits
            self.abandoned.set()

    def fail(self, error: BaseException) -> None:
        """Let the caller see the error."""
        self.deliver(partial(self.future.set_exception, error))


class EngineWorker:
    """At most ``queue_size`` requests wait beyond those that can start at once; tenants take turns by cost.

    Where one too many waits, the newest of the tenant with most of them is refused, so that who floods the queue keeps
    nobody else out of it. An item that needs more room than there is waits at the head of its queue until there is
    enough: nothing overtakes it, and it waits no longer than those under way take to end.
    """

    def __init__(self, *, queue_size: int, timeout_seconds: float) -> None:
        self.queue_size, self.timeout_seconds = queue_size, timeout_seconds
        self._works: FairQueue[_Job[Any]] = FairQueue()
        self._items: FairQueue[_Job[Any]] = FairQueue()
        self._settling: list[_Job[Any]] = []
        self._running: list[_Job[Any]] = []
        self._decoding: dict[Any, _Job[Any]] = {}
        self._batch: Batch | None = None
        self._rows = self._most_rows = 0
        self._is_stepping = self._is_settling = False
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="attune-engine", daemon=True)
        self._thread.start()

    @property
    def queue_length(self) -> int:
        """Requests that wait; those under way do not count."""
        return len(self._works) + len(self._items)

    @property
    def accepting(self) -> bool:
        """Whether the thread lives and takes on work."""
        return self._thread.is_alive() and not self._closing

    def decode_with(self, batch: Batch, most_rows: int) -> None:
        """Use ``batch``, of at most ``most_rows`` rows, for ``decode``; called once, by the worker's thread."""
        self._batch, self._most_rows = batch, most_rows

    async def run(
        self, work: Work[Result], *, timeout_seconds: float | None = None, caller: Caller = ANYBODY, cost: float = 1.0
    ) -> Result:
        """The result of ``work``, computed in the worker's thread; what it raises is raised here.

        ``work`` is given a function that it must call now and then between steps: it raises when the caller has been
        cancelled or its time is over. A piece that waits then leaves the queue at once.

        Args:
            work: What to compute.
            timeout_seconds: Deadline for waiting and computing together; None means the worker's own.
            caller: Whose turn it takes; a deadline of the caller's that is shorter holds.
            cost: What it takes of the tenant's share.

        Raises:
            EngineOverloaded: If the queue is full.
            EngineTimeout: If the deadline passes.
            Unavailable: If the worker is closing.
        """
        return await self._wait(_Job(work), caller, cost, timeout_seconds)

    async def decode(
        self,
        prepare: Callable[[], Any],
        settle: Callable[[Any, Check], Result],
        *,
        rows: int,
        caller: Caller = ANYBODY,
        cost: float = 1.0,
    ) -> Result:
        """The result of an item that takes part in the batch, computed in the worker's thread.

        Args:
            prepare: Makes the item, when its turn has come.
            settle: Makes the result of the finished item; a piece of work as in ``run``.
            rows: How much of the batch it takes.
            caller: As in ``run``.
            cost: As in ``run``.

        Raises:
            EngineOverloaded: If the queue is full.
            EngineTimeout: If the deadline passes.
            Unavailable: If the worker is closing.
        """
        job: _Job[Result] = _Job(lambda check: settle(job.item, check), prepare, rows)
        return await self._wait(job, caller, cost, None)

    async def close(self) -> None:
        """Accept no more work, finish what was accepted, and end the thread.

        Work that is not finished after ``timeout_seconds`` is abandoned; its callers see ``EngineTimeout``.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join, self.timeout_seconds)
        with self._changed:
            for job in (*self._take_waiting(), *self._settling, *self._decoding.copy().values(), *self._running):
                job.abandoned.set()
                job.fail(EngineTimeout(self.timeout_seconds))
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join)

    async def _wait(self, job: _Job[Result], caller: Caller, cost: float, timeout_seconds: float | None) -> Result:
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        seconds = seconds if caller.timeout_seconds is None else min(seconds, caller.timeout_seconds)
        self._enqueue(job, caller.tenant, cost)
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

    def _enqueue(self, job: _Job[Any], tenant: str, cost: float) -> None:
        with self._changed:
            if self._closing:
                raise Unavailable("The engine is shutting down; try again on another instance.")
            queue = self._works if job.prepare is None else self._items
            queue.put(job, tenant, cost)
            refused = queue.drop_newest(tenant) if self._left_waiting() > self.queue_size else None
            error = EngineOverloaded(self.queue_length)
            self._changed.notify_all()
        if refused is job:
            raise error
        if refused is not None:
            refused.fail(error)

    def _left_waiting(self) -> int:
        """Requests that will have to wait once the thread has started what it can."""
        room, is_free = self._most_rows - self._rows, all(job.prepare is not None for job in self._running)
        waiting = max(0, len(self._works) - is_free)
        for job in self._items:
            fits = job.rows <= room or room == self._most_rows
            room -= job.rows if fits else 0
            waiting += not fits
        return waiting

    def _release(self, job: _Job[Any]) -> None:
        """Nobody waits for ``job`` any more: take it out of the queue, or tell the thread to stop it."""
        with self._changed:
            job.abandoned.set()
            if not (self._works.discard(job) or self._items.discard(job)):
                self._changed.notify_all()

    def _take_waiting(self) -> list[_Job[Any]]:
        """Everything that waits, which waits no longer."""
        return [queue.take() for queue in (self._works, self._items) for _ in range(len(queue))]

    def _serve(self) -> None:
        try:
            while self._wait_for_work():
                self._take_step()
                self._run_next()
        finally:
            self._end()

    def _end(self) -> None:
        """The thread ends, in an orderly way or not: in the latter case somebody is left to be told."""
        with self._changed:
            self._closing = True
            left = (*self._take_waiting(), *self._settling, *self._decoding.values(), *self._running)
        for job in left:
            job.fail(Unavailable("The engine failed beyond repair and takes on no more work; restart it."))

    def _wait_for_work(self) -> bool:
        """Whether there is something to do, waited for; False when the worker closes and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_busy() or self._closing)
            return self._is_busy()

    def _is_busy(self) -> bool:
        return bool(len(self._works) or len(self._items) or self._settling or self._decoding)

    def _run_next(self) -> None:
        """What finished items leave to do, and then one piece of work."""
        self._settle()
        if len(self._works):
            self._run(lambda: self._works.take() if len(self._works) else None)

    def _settle(self) -> None:
        """What finished items leave to do, also in the middle of other work, so that none of them waits for its end."""
        if self._is_settling:
            return
        self._is_settling = True
        while self._settling:
            self._run(lambda: self._settling.pop(0))
        self._is_settling = False

    def _run(self, take: Callable[[], _Job[Any] | None]) -> None:
        with self._changed:
            job = take()
            self._running += [] if job is None else [job]
        if job is None:
            return
        deliver = self._execute(job)
        with self._changed:
            self._running.remove(job)
        deliver()  # only now, so that a caller who continues finds the place free

    def _execute(self, job: _Job[Any]) -> Callable[[], None]:
        """Run a piece of work; returns what hands its outcome over."""
        try:
            self._leave_if_abandoned(job)
            result = job.work(partial(self._check, job))
        except Abandoned:
            return lambda: None
        except Exception as error:  # the worker loop: whatever happened belongs to the caller who waits
            return partial(job.fail, error)
        return partial(job.deliver, partial(job.future.set_result, result))

    def _check(self, job: _Job[Any]) -> None:
        self._leave_if_abandoned(job)
        self._take_step()
        self._settle()

    def _leave_if_abandoned(self, job: _Job[Any]) -> None:
        if job.abandoned.is_set():
            raise Abandoned

    def _take_step(self) -> None:
        """Let items leave that nobody waits for, let others join, and advance the batch by one step."""
        batch = self._batch
        if batch is None or self._is_stepping:
            return
        self._is_stepping = True
        try:
            self._advance(batch)
        except Exception as error:  # the worker loop: a step that all share failed, and with it all who take part
            self._give_up(batch, error)
        finally:
            self._is_stepping = False

    def _give_up(self, batch: Batch, error: Exception) -> None:
        """Begin again with an empty batch; all who took part see the error, even where that fails as well."""
        jobs = list(self._decoding.values())
        try:
            batch.reset()
        finally:
            self._forget(jobs)
            for job in jobs:
                job.fail(error)

    def _advance(self, batch: Batch) -> None:
        gone = [job for job in self._decoding.values() if job.abandoned.is_set()]
        for job in gone:
            batch.drop(job.item)
        self._forget(gone)
        together = not self._decoding
        while (new := self._next_item(batch)) is not None:
            if not self._attempt(new, partial(self._start, batch, new)) and new.item is not None:
                batch.drop(new.item)
            if not together:
                break  # who is decoded already waits for one prompt to be read, not for many
        if self._decoding:
            jobs = dict(self._decoding)
            finished = batch.step(lambda item, work: self._attempt(jobs[item], work))
            self._settling += [jobs[item] for item in finished]
            self._forget(self._settling[len(self._settling) - len(finished) :])

    def _next_item(self, batch: Batch) -> _Job[Any] | None:
        """The next item if there is room for it; it takes its rows from here on."""
        with self._changed:
            job = self._items.peek()
            if job is None or not batch.accepts(job.rows):
                return None
            self._rows += job.rows
            return self._items.take()

    def _start(self, batch: Batch, job: _Job[Any]) -> None:
        job.item = job.prepare() if job.prepare is not None else None
        batch.start(job.item)
        self._decoding[job.item] = job

    def _attempt(self, job: _Job[Any], work: Callable[[], None]) -> bool:
        """Do what concerns one item alone; an error in it ends that item only."""
        try:
            work()
        except Exception as error:  # the worker loop: whatever happened belongs to the caller who waits
            self._forget([job])
            job.fail(error)
            return False
        return True

    def _forget(self, jobs: Sequence[_Job[Any]]) -> None:
        """These items have left the batch."""
        with self._changed:
            for job in jobs:
                self._decoding.pop(job.item, None)
                self._rows -= job.rows
