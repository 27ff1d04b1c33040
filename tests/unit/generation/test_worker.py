import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.entities import Caller
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


async def test_closing_tells_those_whose_work_does_not_end_in_time() -> None:
    worker = EngineWorker(queue_size=4, timeout_seconds=0.05)
    gate = Gate()
    tasks = [asyncio.create_task(worker.run(gate, timeout_seconds=600)) for _ in range(2)]
    await gate.wait_until_entered()
    await worker.close()
    async with asyncio.timeout(5):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [EngineTimeout] * 2


async def test_a_flood_of_one_tenant_does_not_keep_another_out_of_the_queue() -> None:
    worker = EngineWorker(queue_size=2, timeout_seconds=10)
    gate = Gate()
    flood = [asyncio.create_task(worker.run(gate, caller=Caller("flood"))) for _ in range(3)]
    await gate.wait_until_entered()
    guest = asyncio.create_task(worker.run(lambda check: "guest", caller=Caller("guest")))
    await asyncio.sleep(0)
    gate.opened.set()
    assert await guest == "guest"
    found = await asyncio.gather(*flood, return_exceptions=True)
    assert [one if isinstance(one, str) else type(one) for one in found] == ["through", "through", EngineOverloaded]
    await worker.close()


class Countdown:
    """A batch of items, each of which takes so many steps; what may fail does so when told."""

    def __init__(self, steps: int = 1) -> None:
        self.steps, self.left = steps, dict[str, int]()
        self.fails, self.resets, self.is_broken = False, 0, False

    def accepts(self, rows: int) -> bool:
        return True

    def start(self, item: str) -> None:
        self.left[item] = self.steps

    def drop(self, item: str) -> None:
        self.left.pop(item, None)

    def step(self, attempt: Callable[[Any, Callable[[], None]], bool]) -> list[str]:
        if self.fails:
            raise MemoryError
        self.left = {item: left - 1 for item, left in self.left.items()}
        finished = [item for item, left in self.left.items() if not left]
        self.left = {item: left for item, left in self.left.items() if left}
        return finished

    def reset(self) -> None:
        if self.is_broken:
            raise RuntimeError("the device is gone")
        self.resets += 1


async def _decode(worker: EngineWorker, item: str = "item") -> str:
    return await worker.decode(lambda: item, lambda item, check: str(item), rows=1)


@pytest.fixture
async def batch(worker: EngineWorker) -> Countdown:
    batch = Countdown()
    await worker.run(lambda check: worker.decode_with(batch, 8))
    return batch


async def test_a_finished_item_does_not_wait_for_the_end_of_other_work(worker: EngineWorker, batch: Countdown) -> None:
    gate = Gate()
    running = asyncio.create_task(worker.run(gate))
    await gate.wait_until_entered()
    async with asyncio.timeout(5):
        assert await _decode(worker) == "item"
    gate.opened.set()
    await running


async def test_after_a_shared_failure_the_batch_begins_again(worker: EngineWorker, batch: Countdown) -> None:
    batch.fails = True
    with pytest.raises(MemoryError):
        await _decode(worker)
    batch.fails = False
    assert (await _decode(worker), batch.resets) == ("item", 1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_where_a_batch_cannot_begin_again_everybody_is_told(worker: EngineWorker, batch: Countdown) -> None:
    batch.fails = batch.is_broken = True
    tasks = [asyncio.create_task(_decode(worker, item)) for item in ("first", "second")]
    async with asyncio.timeout(5):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in found} <= {MemoryError, Unavailable}
    assert not worker.accepting
    with pytest.raises(Unavailable):
        await _decode(worker)
