"""What is believed about a person's coefficients, with every comparison on the active basis."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from app.entities import Caller, Comparison
from app.errors import PromptTooLong
from app.ports import BeginUnitOfWork, Decoder
from app.services.estimator import Estimate, Estimator
from app.services.identifiers import tenant_of
from app.services.preference_log import PreferenceLog, read_log


@dataclass(frozen=True)
class EstimatePreferences:
    """Derive a person's coefficients; comparisons made on another basis are scored again first, once."""

    begin: BeginUnitOfWork
    estimator: Estimator
    decoder: Decoder

    async def __call__(self, user_id: str) -> Estimate:
        """The estimate on the active basis; raises ``UserNotFound``."""
        return self.estimator(await self.current_log(user_id))

    async def current_log(self, user_id: str) -> PreferenceLog:
        """The log with every comparison on the active basis that fits it; raises ``UserNotFound``."""
        version = self.estimator.registry.basis.version
        log = await self._read(user_id)
        stale = [comparison for comparison in log.comparisons if comparison.basis_version != version]
        if stale and await self._rescore(stale, version):
            return await self._read(user_id)
        return log

    async def version(self, user_id: str) -> str:
        """The version an estimate would have now, without computing it; raises ``UserNotFound``."""
        async with self.begin(read_only=True) as uow:
            user = await uow.users.get(user_id)
            number = await uow.preferences.version(user_id)
        return self.estimator.version(user, number)

    async def _read(self, user_id: str) -> PreferenceLog:
        async with self.begin(read_only=True) as uow:
            return await read_log(uow, user_id)

    async def _rescore(self, stale: Sequence[Comparison], basis_version: str) -> int:
        """Score again what fits into the active model's context; returns how many did."""
        rescored = []
        for comparison in stale:
            try:
                rewards = await self.decoder.basis_rewards(
                    comparison.prompt,
                    [comparison.first, comparison.second],
                    caller=Caller(tenant_of(comparison.user_id)),
                )
            except PromptTooLong:
                continue
            differences = tuple((rewards[0] - rewards[1]).tolist())
            rescored.append(replace(comparison, basis_version=basis_version, differences=differences))
        if rescored:
            async with self.begin() as uow:
                await uow.preferences.rescore(rescored)
                await uow.commit()
        return len(rescored)
