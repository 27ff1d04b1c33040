"""Erase a person."""

from dataclasses import dataclass
from datetime import datetime

import structlog

from app.errors import AttuneError
from app.ports import BeginUnitOfWork, Clock, Decoder

log = structlog.get_logger("attune.erasure")


@dataclass(frozen=True)
class ErasureReceipt:
    """Proof of an erasure: how many rows went from which table, when, and whether the engine's caches were emptied.

    An engine that cannot be reached, or refuses, keeps texts in memory until newer ones displace them, or it stops.
    """

    user_id: str
    erased_at: datetime
    rows: dict[str, int]
    engine_forgot: bool


@dataclass(frozen=True)
class DeleteUser:
    """Erase a user and everything that hangs on them, in the database and in the engine's memory."""

    begin: BeginUnitOfWork
    clock: Clock
    decoder: Decoder

    async def __call__(self, user_id: str) -> ErasureReceipt:
        """The receipt; raises ``UserNotFound``.

        The engine knows nobody, so that it forgets everybody's texts: it is slower for a moment.
        """
        async with self.begin() as uow:
            rows = await uow.users.delete(user_id)
            await uow.commit()
        return ErasureReceipt(user_id, self.clock(), rows, await self._forget())

    async def _forget(self) -> bool:
        try:
            await self.decoder.forget()
        except AttuneError as error:
            log.warning("engine_did_not_forget", reason=error.message)
            return False
        return True
