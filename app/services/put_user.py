"""Create a person, or change what is known about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.entities import User
from app.ports import BeginUnitOfWork, Clock, UnitOfWork


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
        sent = {field: getattr(changes, field) for field in changes.fields}
        new = replace(User(user_id, None, True, {}, now, now), **sent)
        async with self.begin() as uow:
            known = await _add_or_lock(uow, new)
            user = new if known is None else replace(known, **sent, updated_at=now)
            if known is not None:
                await uow.users.change(user)
            await uow.commit()
        return user, known is None


async def _add_or_lock(uow: UnitOfWork, new: User) -> User | None:
    """The user who has this id already, locked; None where ``new`` was added. Others may add or erase at once."""
    while True:
        known = await uow.users.find(new.id, for_update=True)
        if known is not None or await uow.users.add(new):
            return known
