"""Read a person."""

from dataclasses import dataclass

from app.entities import User
from app.ports import BeginUnitOfWork


@dataclass(frozen=True)
class GetUser:
    """Read one user."""

    begin: BeginUnitOfWork

    async def __call__(self, user_id: str) -> User:
        """The user; raises ``UserNotFound``."""
        async with self.begin(read_only=True) as uow:
            return await uow.users.get(user_id)
