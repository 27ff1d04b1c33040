"""A queue that shares its turns evenly between tenants, by what their requests cost."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """First come, first served within a tenant; between tenants, the one that was served least goes first.

    Every tenant has a clock that its requests advance by their cost when they are taken. Who comes back after a pause
    starts from the clock of the tenant served last, so that nobody saves up turns. Once nothing waits, all are level.

    Source:
        Goyal, Vin and Cheng, "Start-time Fair Queueing" (1996), sec. 2.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[Item, float]]] = {}
        self._clocks: dict[str, float] = {}
        self._now = 0.0

    def __len__(self) -> int:
        return sum(len(items) for items in self._waiting.values())

    def __iter__(self) -> Iterator[Item]:
        """All items, tenant by tenant."""
        return (item for items in self._waiting.values() for item, _ in items)

    def put(self, item: Item, tenant: str, cost: float) -> None:
        """Append to the tenant's line."""
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            self._clocks[tenant] = max(self._clocks.get(tenant, 0.0), self._now)
        self._waiting[tenant].append((item, cost))

    def peek(self) -> Item | None:
        """What ``take`` would return; None if nothing waits."""
        return self._waiting[self._next()][0][0] if self._waiting else None

    def take(self) -> Item:
        """Remove the item whose turn it is; there must be one."""
        tenant = self._next()
        item, cost = self._waiting[tenant].popleft()
        self._now = self._clocks[tenant]
        self._clocks[tenant] += cost
        if not self._waiting[tenant]:
            del self._waiting[tenant]
            self._now = self._now if self._waiting else max(self._clocks.values())
            self._clocks = {one: at for one, at in self._clocks.items() if one in self._waiting or at > self._now}
        return item

    def discard(self, item: Item) -> bool:
        """Remove an item wherever it stands; returns whether it was there."""
        for tenant, items in self._waiting.items():
            for entry in items:
                if entry[0] is item:
                    items.remove(entry)
                    if not items:
                        del self._waiting[tenant]
                    return True
        return False

    def drop_newest(self, newcomer: str) -> Item:
        """Remove the newest item of the tenant with most of them; of several such, of ``newcomer`` if it is one."""
        greediest = max(self._waiting, key=lambda tenant: (len(self._waiting[tenant]), tenant == newcomer))
        item, _ = self._waiting[greediest].pop()
        if not self._waiting[greediest]:
            del self._waiting[greediest]
        return item

    def _next(self) -> str:
        """The tenant whose turn it is; of those level with each other, the one that has waited longest."""
        return min(self._waiting, key=lambda tenant: self._clocks[tenant])
