"""Erase a person."""

from dataclasses import dataclass
from datetime import datetime

from app.ports import BeginUnitOfWork, Clock


@dataclass(frozen=True)
class ErasureReceipt:
    """Proof of an erasure: how many rows went from which table, and when."""

    user_id: str
    erased_at: datetime
    rows: dict[str, int]


@dataclass(frozen=True)
class DeleteUser:
    """Erase a user and everything that hangs on them."""

    begin: BeginUnitOfWork
    clock: Clock

    async def __call__(self, user_id: str) -> ErasureReceipt:
        """The receipt; raises ``UserNotFound``."""
        async with self.begin() as uow:
            rows = await uow.users.delete(user_id)
            await uow.commit()
        return ErasureReceipt(user_id, self.clock(), rows)
