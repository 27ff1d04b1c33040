"""Start over with a person's preferences."""

from dataclasses import dataclass

from app.ports import BasisRegistry, BeginUnitOfWork, Clock
from app.services.estimate_preferences import Estimate, estimate, read_log


@dataclass(frozen=True)
class ResetPreferences:
    """Leave everything said so far out of the estimate; the answers themselves stay for the export."""

    begin: BeginUnitOfWork
    registry: BasisRegistry
    clock: Clock

    async def __call__(self, user_id: str) -> Estimate:
        """The estimate afterwards: the population's; raises ``UserNotFound``."""
        async with self.begin() as uow:
            await uow.users.get(user_id, for_update=True)
            await uow.preferences.reset(user_id, self.clock())
            cleared = estimate(self.registry.basis, await read_log(uow, user_id))
            await uow.commit()
        return cleared
