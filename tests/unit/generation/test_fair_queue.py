from collections import Counter

from app.generation.fair_queue import FairQueue


def _filled(*entries: tuple[str, str, float]) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for item, tenant, cost in entries:
        queue.put(item, tenant, cost)
    return queue


def _taken(queue: FairQueue[str]) -> list[str]:
    return [queue.take() for _ in range(len(queue))]


def test_one_tenants_items_come_in_their_order() -> None:
    assert _taken(_filled(("a", "x", 1), ("b", "x", 9), ("c", "x", 1))) == ["a", "b", "c"]


def test_tenants_take_turns_whoever_came_first() -> None:
    queue = _filled(("a", "x", 1), ("b", "x", 1), ("c", "x", 1), ("d", "y", 1), ("e", "y", 1))
    assert _taken(queue) == ["a", "d", "b", "e", "c"]


def test_turns_are_shared_by_cost_and_not_by_number() -> None:
    queue = _filled(*[(f"large{i}", "x", 16.0) for i in range(20)], *[(f"small{i}", "y", 1.0) for i in range(100)])
    first = Counter(item[:5] for item in _taken(queue)[:50])
    assert 16 * first["large"] - first["small"] <= 16
    assert first["small"] > 40


def test_who_comes_back_has_saved_no_turns_up() -> None:
    queue = _filled(*[(f"x{i}", "x", 1.0) for i in range(10)])
    for _ in range(6):
        queue.take()
    for i in range(4):
        queue.put(f"y{i}", "y", 1.0)
    assert [item[0] for item in _taken(queue)].count("y") == 4
    queue = _filled(*[(f"x{i}", "x", 1.0) for i in range(10)])
    for _ in range(6):
        queue.take()
    for i in range(4):
        queue.put(f"y{i}", "y", 1.0)
    assert [item[0] for item in _taken(queue)][:4].count("x") >= 1


def test_leaving_and_coming_back_at_once_gains_nothing() -> None:
    queue = _filled(("a", "x", 10), ("b", "y", 10))
    assert queue.take() == "a"
    queue.put("c", "x", 10)
    assert _taken(queue) == ["b", "c"]


def test_what_is_next_can_be_looked_at() -> None:
    queue = _filled(("a", "x", 1), ("b", "y", 1))
    assert queue.peek() == queue.take() == "a"


def test_an_empty_queue_has_nothing_next() -> None:
    assert _filled().peek() is None


def test_an_item_can_leave_from_the_middle() -> None:
    queue = _filled(("a", "x", 1), ("b", "x", 1), ("c", "x", 1))
    assert queue.discard("b")
    assert _taken(queue) == ["a", "c"]


def test_an_item_that_is_not_there_cannot_leave() -> None:
    assert not _filled(("a", "x", 1)).discard("b")


def test_tenants_without_items_are_forgotten_in_the_end() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(1000):
        queue.put("item", str(number), 1.0)
        queue.take()
    assert len(queue._clocks) < 10
