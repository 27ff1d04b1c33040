"""Let a person correct their own coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.entities import Adjustment
from app.errors import PreconditionRequired, PreferencesChanged, UnknownAxis
from app.ports import BeginUnitOfWork, Clock
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimate, Estimator
from app.services.identifiers import new_id
from app.services.preference_log import read_log

ANY_VERSION = "*"


@dataclass(frozen=True)
class AdjustPreferences:
    """Add a person's own adjustments, provided that they saw the current state."""

    begin: BeginUnitOfWork
    estimator: Estimator
    estimate: EstimatePreferences
    clock: Clock

    async def __call__(
        self, user_id: str, adjustments: Sequence[tuple[int, float]], expected_version: str | None
    ) -> Estimate:
        """The new estimate; raises ``PreconditionRequired``, ``PreferencesChanged`` or ``UnknownAxis``."""
        if expected_version is None:
            raise PreconditionRequired()
        basis, now = self.estimator.registry.basis, self.clock()
        for index, _ in adjustments:
            if not 0 <= index < len(basis.axes):
                raise UnknownAxis(index, len(basis.axes))
        await self.estimate.current_log(user_id)
        async with self.begin() as uow:
            user = await uow.users.get(user_id, for_update=True)
            current = self.estimator.version(user, await uow.preferences.version(user_id))
            if expected_version not in {ANY_VERSION, current}:
                raise PreferencesChanged(f'"{current}"')
            await uow.preferences.add_adjustments(
                [
                    Adjustment(new_id("adj", now), user_id, basis.version, index, delta, now)
                    for index, delta in adjustments
                ]
            )
            changed = self.estimator(await read_log(uow, user_id))
            await uow.commit()
        return changed
