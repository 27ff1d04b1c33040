import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from app.errors import EngineOverloaded, EngineTimeout, Unavailable
from app.generation.worker import Check, EngineWorker

pytestmark = pytest.mark.anyio


@pytest.fixture
async def worker() -> AsyncIterator[EngineWorker]:
    worker = EngineWorker(queue_size=1, timeout_seconds=10)
    yield worker
    await worker.close()


class Gate:
    """Work that runs until it is opened, or until its check raises."""

    def __init__(self) -> None:
        self.entered, self.opened, self.stopped = threading.Event(), threading.Event(), threading.Event()

    def __call__(self, check: Check) -> str:
        self.entered.set()
        try:
            while not self.opened.wait(0.001):
                check()
        except BaseException:
            self.stopped.set()
            raise
        return "through"

    async def wait_until_entered(self) -> None:
        await asyncio.to_thread(self.entered.wait, 5)


async def test_the_result_of_the_work_comes_back(worker: EngineWorker) -> None:
    assert await worker.run(lambda check: 6 * 7) == 42


async def test_what_the_work_raises_is_raised_to_the_caller(worker: EngineWorker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda check: 1 // 0)


async def test_a_timeout_error_of_the_work_is_not_the_engines_timeout(worker: EngineWorker) -> None:
    def fail(check: Check) -> None:
        raise TimeoutError("disk")

    with pytest.raises(TimeoutError, match="disk"):
        await worker.run(fail)


async def test_the_worker_goes_on_after_a_failure(worker: EngineWorker) -> None:
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda check: 1 // 0)
    assert await worker.run(lambda check: "next") == "next"


async def test_work_is_done_in_one_thread_in_order(worker: EngineWorker) -> None:
    seen: list[tuple[int, str]] = []
    for number in range(3):
        await worker.run(lambda check, number=number: seen.append((number, threading.current_thread().name)))
    assert seen == [(number, "attune-engine") for number in range(3)]


async def test_the_event_loop_runs_on_while_work_is_done(worker: EngineWorker) -> None:
    gate = Gate()
    task = asyncio.create_task(worker.run(gate))
    await gate.wait_until_entered()
    began = time.monotonic()
    await asyncio.sleep(0)
    gate.opened.set()
    assert await task == "through"
    assert time.monotonic() - began < 5


async def test_a_full_queue_refuses_more_work(worker: EngineWorker) -> None:
    gate = Gate()
    tasks = [asyncio.create_task(worker.run(gate)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(EngineOverloaded):
        await worker.run(gate)
    gate.opened.set()
    assert await asyncio.gather(*tasks) == ["through", "through"]


async def test_finished_work_has_left_its_place_when_its_result_arrives(worker: EngineWorker) -> None:
    for _ in range(200):
        assert await asyncio.gather(*(worker.run(lambda check: "done") for _ in range(2))) == ["done", "done"]


async def test_queue_length_counts_the_work_that_waits(worker: EngineWorker) -> None:
    gate = Gate()
    running = asyncio.create_task(worker.run(gate))
    await gate.wait_until_entered()
    waiting = asyncio.create_task(worker.run(gate))
    await asyncio.sleep(0)
    assert worker.queue_length == 1
    gate.opened.set()
    await asyncio.gather(running, waiting)


async def test_cancelling_waiting_work_frees_its_place_at_once(worker: EngineWorker) -> None:
    gate = Gate()
    running = asyncio.create_task(worker.run(gate))
    await gate.wait_until_entered()
    waiting = asyncio.create_task(worker.run(gate))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert worker.queue_length == 0
    gate.opened.set()
    await running


async def test_cancelled_waiting_work_is_never_started(worker: EngineWorker) -> None:
    first, second = Gate(), Gate()
    running = asyncio.create_task(worker.run(first))
    await first.wait_until_entered()
    waiting = asyncio.create_task(worker.run(second))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    first.opened.set()
    await running
    await worker.run(lambda check: None)
    assert not second.entered.is_set()


async def test_cancelling_running_work_stops_it(worker: EngineWorker) -> None:
    gate = Gate()
    task = asyncio.create_task(worker.run(gate))
    await gate.wait_until_entered()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.to_thread(gate.stopped.wait, 5)


async def test_work_past_its_deadline_is_a_timeout_and_stops(worker: EngineWorker) -> None:
    gate = Gate()
    with pytest.raises(EngineTimeout):
        await worker.run(gate, timeout_seconds=0.02)
    assert await asyncio.to_thread(gate.stopped.wait, 5)


async def test_waiting_counts_towards_the_deadline(worker: EngineWorker) -> None:
    gate = Gate()
    running = asyncio.create_task(worker.run(gate))
    await gate.wait_until_entered()
    with pytest.raises(EngineTimeout):
        await worker.run(lambda check: "never", timeout_seconds=0.02)
    gate.opened.set()
    await running


async def test_closing_finishes_what_was_accepted() -> None:
    worker = EngineWorker(queue_size=4, timeout_seconds=10)
    gate = Gate()
    tasks = [asyncio.create_task(worker.run(gate)) for _ in range(3)]
    await gate.wait_until_entered()
    closing = asyncio.create_task(worker.close())
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    assert await asyncio.gather(*tasks) == ["through"] * 3


async def test_closing_gives_up_work_that_does_not_end_in_time() -> None:
    worker = EngineWorker(queue_size=4, timeout_seconds=0.05)
    gate = Gate()
    task = asyncio.create_task(worker.run(gate, timeout_seconds=10))
    await gate.wait_until_entered()
    await worker.close()
    assert gate.stopped.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_closed_worker_accepts_nothing() -> None:
    worker = EngineWorker(queue_size=4, timeout_seconds=1)
    await worker.close()
    with pytest.raises(Unavailable, match="shutting down"):
        await worker.run(lambda check: None)
