"""The gate in front of an engine: places, turns shared between tenants, a bounded queue, cancellation."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import numpy as np
import pytest

from app.errors import EngineOverloaded, Unavailable
from app.generation.admission import FairGate

pytestmark = pytest.mark.anyio


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class _Calls:
    """Calls through a gate that last until they are let go; remembers the order in which they entered."""

    def __init__(self, gate: FairGate) -> None:
        self.gate, self.entered = gate, list[str]()
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, tenant: str, *, places: int = 1, cost: float = 1.0) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._call(name, tenant, places, cost))
        await _settle()

    async def leave(self, name: str) -> None:
        self.ends[name].set()
        await self.tasks[name]
        await _settle()

    async def leave_as_they_came(self) -> None:
        for _ in self.tasks:
            for name in self.entered:
                await self.leave(name)

    async def _call(self, name: str, tenant: str, places: int, cost: float) -> None:
        async with self.gate.admit(tenant, places=places, cost=cost):
            self.entered.append(name)
            await self.ends[name].wait()


_made: list[_Calls] = []


def _calls(places: int = 1, queue_size: int = 100) -> _Calls:
    _made.append(_Calls(FairGate(places=places, queue_size=queue_size)))
    return _made[-1]


@pytest.fixture(autouse=True)
async def _no_call_outlives_its_test() -> AsyncIterator[None]:
    """Calls that were left waiting would be found by the garbage collector in the middle of another test."""
    yield
    tasks = [task for calls in _made for task in calls.tasks.values()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    _made.clear()


async def test_calls_enter_at_once_while_there_are_places() -> None:
    calls = _calls(places=2)
    await calls.come("one", "")
    await calls.come("two", "")
    assert calls.entered == ["one", "two"]


async def test_no_more_places_are_taken_than_there_are() -> None:
    calls = _calls(places=3)
    await calls.come("one", "", places=2)
    await calls.come("two", "", places=2)
    assert (calls.entered, calls.gate.used) == (["one"], 2)


async def test_a_call_of_more_places_than_there_are_takes_them_all() -> None:
    calls = _calls(places=3)
    await calls.come("large", "", places=9)
    assert (calls.entered, calls.gate.used) == (["large"], 3)


async def test_calls_of_one_tenant_enter_in_the_order_in_which_they_came() -> None:
    calls = _calls()
    for name in "abcd":
        await calls.come(name, "")
    await calls.leave_as_they_came()
    assert calls.entered == ["a", "b", "c", "d"]


async def test_tenants_take_turns_however_many_calls_one_of_them_sends() -> None:
    calls = _calls()
    for name in ("a1", "a2", "a3", "a4"):
        await calls.come(name, "a")
    await calls.come("b1", "b")
    await calls.come("b2", "b")
    await calls.leave_as_they_came()
    assert calls.entered == ["a1", "a2", "b1", "a3", "b2", "a4"]


async def test_a_tenant_with_calls_of_double_cost_gets_half_as_many_through() -> None:
    calls = _calls()
    for number in range(10):
        await calls.come(f"a{number}", "a", cost=2.0)
        await calls.come(f"b{number}", "b", cost=1.0)
    await calls.leave_as_they_came()
    assert sum(name.startswith("a") for name in calls.entered[1:10]) == 3


async def test_being_away_earns_no_credit() -> None:
    calls = _calls()
    for number in range(6):
        await calls.come(f"a{number}", "a")
    for number in range(3):
        await calls.leave(f"a{number}")
    await calls.come("b0", "b")
    await calls.come("b1", "b")
    await calls.leave_as_they_came()
    assert calls.entered[4:] in (["b0", "a4", "b1", "a5"], ["a4", "b0", "a5", "b1"])


async def test_small_calls_do_not_overtake_a_large_one_for_ever() -> None:
    calls = _calls(places=2)
    await calls.come("running", "a")
    await calls.come("large", "a", places=2)
    await calls.come("small", "a")
    assert calls.entered == ["running"]


async def test_a_call_beyond_the_queue_is_refused_at_once() -> None:
    calls = _calls(queue_size=1)
    await calls.come("in", "")
    await calls.come("waiting", "")
    with pytest.raises(EngineOverloaded):
        async with calls.gate.admit(""):
            pass


async def test_a_full_queue_makes_room_for_a_tenant_with_nothing_in_it() -> None:
    calls = _calls(queue_size=2)
    for name in ("a1", "a2", "a3"):
        await calls.come(name, "a")
    await calls.come("b1", "b")
    with pytest.raises(EngineOverloaded):
        await calls.tasks["a3"]
    await calls.leave_as_they_came()
    assert calls.entered == ["a1", "a2", "b1"]


async def test_cancelling_a_waiting_call_frees_its_place_in_the_queue() -> None:
    calls = _calls()
    await calls.come("in", "")
    await calls.come("waiting", "")
    calls.tasks["waiting"].cancel()
    await _settle()
    assert calls.gate.queue_length == 0


async def test_cancelling_a_large_call_lets_those_behind_it_in() -> None:
    calls = _calls(places=2)
    await calls.come("running", "a")
    await calls.come("large", "a", places=2)
    await calls.come("small", "a")
    calls.tasks["large"].cancel()
    await _settle()
    assert calls.entered == ["running", "small"]


async def test_a_call_cancelled_in_the_moment_of_its_turn_frees_its_place() -> None:
    calls = _calls()
    await calls.come("in", "")
    await calls.come("waiting", "")
    calls.ends["in"].set()
    await asyncio.sleep(0)  # "in" has left: the turn is given, and "waiting" has not woken up yet
    calls.tasks["waiting"].cancel()
    await _settle()
    assert calls.gate.used == 0


async def test_a_call_that_is_cancelled_before_its_turn_is_given_frees_its_place() -> None:
    calls = _calls()
    await calls.come("in", "")
    await calls.come("waiting", "")
    calls.tasks["waiting"].cancel()
    calls.ends["in"].set()
    await _settle()
    assert (calls.gate.used, calls.gate.queue_length) == (0, 0)


async def test_a_failure_inside_frees_the_place() -> None:
    gate = FairGate(places=1, queue_size=1)
    with pytest.raises(KeyError):
        async with gate.admit(""):
            raise KeyError
    assert gate.used == 0


async def test_a_closing_gate_refuses_new_calls() -> None:
    gate = FairGate(places=1, queue_size=1)
    await gate.close(1)
    with pytest.raises(Unavailable):
        async with gate.admit(""):
            pass


async def test_closing_waits_for_calls_that_wait_themselves() -> None:
    calls = _calls()
    await calls.come("in", "")
    await calls.come("waiting", "")
    closing = asyncio.create_task(calls.gate.close(10))
    await calls.leave("in")
    assert not closing.done()
    await calls.leave("waiting")
    assert await closing


async def test_closing_gives_up_on_calls_that_stay() -> None:
    calls = _calls()
    await calls.come("in", "")
    assert not await calls.gate.close(0.01)


async def test_a_thousand_random_calls_cancellations_and_failures_leave_nothing_behind() -> None:
    gate, rng = FairGate(places=5, queue_size=20), np.random.default_rng(4)
    most = 0

    async def call(wait: Callable[[], Awaitable[None]], places: int, tenant: str, *, fails: bool) -> None:
        nonlocal most
        async with gate.admit(tenant, places=places, cost=places):
            most = max(most, gate.used)
            await wait()
            if fails:
                raise KeyError

    async def pauses(count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    tasks = []
    for _ in range(1000):
        count, places, tenant = int(rng.integers(5)), int(rng.integers(1, 8)), str(rng.integers(4))
        work = call(lambda count=count: pauses(count), places, tenant, fails=rng.random() < 0.2)
        tasks.append(asyncio.create_task(work))
        if rng.random() < 0.3:
            tasks[int(rng.integers(len(tasks)))].cancel()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (gate.used, gate.queue_length, most) == (0, 0, 5)


async def test_no_tenant_is_remembered_once_all_have_left() -> None:
    gate = FairGate(places=1, queue_size=1)
    for number in range(100):
        async with gate.admit(f"tenant {number}"):
            pass
    assert not gate._waiting._clocks
