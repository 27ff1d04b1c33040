"""Create a person, or change what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.entities import User
from app.ports import BeginUnitOfWork, Clock


@dataclass(frozen=True)
class UserChanges:
    """What to set; ``fields`` names the ones the caller sent, the others keep their value."""

    fields: frozenset[str]
    about: str | None = None
    consent: bool = True
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class PutUser:
    """Create or change a user; a field left out keeps its value, so consent withdrawn stays withdrawn."""

    begin: BeginUnitOfWork
    clock: Clock

    async def __call__(self, user_id: str, changes: UserChanges) -> tuple[User, bool]:
        """The user as stored, and whether they are new."""
        now = self.clock()
        async with self.begin() as uow:
            known = await uow.users.find(user_id)
            user = known or User(user_id, None, True, {}, now, now)
            sent = {field: getattr(changes, field) for field in changes.fields}
            user = replace(user, **sent, updated_at=now)
            await uow.users.put(user)
            await uow.commit()
        return user, known is None
