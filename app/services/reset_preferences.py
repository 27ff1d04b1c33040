"""Start over with a person's preferences."""

from dataclasses import dataclass

from app.ports import BeginUnitOfWork, Clock
from app.services.estimator import Estimate, Estimator
from app.services.preference_log import read_log


@dataclass(frozen=True)
class ResetPreferences:
    """Leave everything said so far out of the estimate; the answers themselves stay for the export."""

    begin: BeginUnitOfWork
    estimator: Estimator
    clock: Clock

    async def __call__(self, user_id: str) -> Estimate:
        """The estimate afterwards, as without any answer; raises ``UserNotFound``."""
        async with self.begin() as uow:
            await uow.users.get(user_id, for_update=True)
            await uow.preferences.reset(user_id, self.clock())
            cleared = self.estimator(await read_log(uow, user_id))
            await uow.commit()
        return cleared
