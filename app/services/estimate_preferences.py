"""What is believed about a person's coefficients, derived afresh from everything they said."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256

import numpy as np

from app.entities import Adjustment, Basis, Comparison, Preferred, User
from app.errors import PosteriorNotConverged, PromptTooLong
from app.ports import BasisRegistry, BeginUnitOfWork, Decoder, UnitOfWork
from app.preferences.certainty import certainty
from app.preferences.posterior import Posterior, fit_posterior, shifted
from app.services.identifiers import time_of

FIRST_PREFERRED: dict[Preferred, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}


@dataclass(frozen=True)
class PreferenceLog:
    """Everything a person said since the last reset, with a number that grows with every entry.

    ``updated_at`` is when the last entry, resets included, was written.
    """

    user: User
    comparisons: Sequence[Comparison]
    adjustments: Sequence[Adjustment]
    version: int
    updated_at: datetime | None


@dataclass(frozen=True)
class Estimate:
    """Belief about one person's coefficients on one basis; ``version`` changes whenever the belief may."""

    user: User
    basis: Basis
    posterior: Posterior
    certainty: float
    comparisons: int
    version: str
    updated_at: datetime | None


async def read_log(uow: UnitOfWork, user_id: str) -> PreferenceLog:
    """Read the log of a user; raises ``UserNotFound``."""
    user = await uow.users.get(user_id)
    comparisons = await uow.preferences.comparisons(user_id)
    adjustments = await uow.preferences.adjustments(user_id)
    number, resets = await uow.preferences.version(user_id), await uow.preferences.resets(user_id)
    return PreferenceLog(user, comparisons, adjustments, number, _last_written(comparisons, adjustments, resets))


def _last_written(
    comparisons: Sequence[Comparison], adjustments: Sequence[Adjustment], resets: Sequence[datetime]
) -> datetime | None:
    """A comparison's ``created_at`` may be when a caller says it was made; its id tells when it was written."""
    written = [time_of(comparison.id) for comparison in comparisons]
    return max([*written, *(adjustment.created_at for adjustment in adjustments), *resets], default=None)


def version_of(basis: Basis, user: User, number: int) -> str:
    """Name of a state of the log: another basis, or a user erased and created again, makes it another one."""
    fingerprint = sha256(f"{basis.version} {user.created_at.isoformat()}".encode()).hexdigest()[:8]
    return f"v{number}-{fingerprint}"


def estimate(basis: Basis, log: PreferenceLog) -> Estimate:
    """Fit the log's comparisons on ``basis`` and add the person's own adjustments.

    Entries on another basis are left out: comparisons are re-scored before they get here, and an adjustment of an
    axis that is gone has no meaning.
    """
    used = [comparison for comparison in log.comparisons if comparison.basis_version == basis.version]
    posterior = _fit(basis, used)
    own = [(item.index, item.delta) for item in log.adjustments if item.basis_version == basis.version]
    posterior = shifted(posterior, own)
    return Estimate(
        user=log.user,
        basis=basis,
        posterior=posterior,
        certainty=certainty(posterior, basis.reference, basis.certainty_scale),
        comparisons=len(log.comparisons),
        version=version_of(basis, log.user, log.version),
        updated_at=log.updated_at,
    )


def _fit(basis: Basis, comparisons: Sequence[Comparison]) -> Posterior:
    differences = np.array([comparison.differences for comparison in comparisons], dtype=np.float64)
    first_preferred = np.array([FIRST_PREFERRED[comparison.preferred] for comparison in comparisons])
    posterior, report = fit_posterior(
        basis.prior, differences.reshape(-1, len(basis.axes)), first_preferred, exponent=basis.exponent
    )
    if not report.converged:
        raise PosteriorNotConverged(
            f"The fit of {len(comparisons)} comparisons stopped at gradient {report.largest_gradient:g}."
        )
    return posterior


@dataclass(frozen=True)
class EstimatePreferences:
    """Derive a person's coefficients; comparisons made on another basis are scored again first, once."""

    begin: BeginUnitOfWork
    registry: BasisRegistry
    decoder: Decoder

    async def __call__(self, user_id: str) -> Estimate:
        """The estimate on the active basis; raises ``UserNotFound``."""
        return estimate(self.registry.basis, await self.current_log(user_id))

    async def current_log(self, user_id: str) -> PreferenceLog:
        """The log with every comparison on the active basis that fits it; raises ``UserNotFound``."""
        version = self.registry.basis.version
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
        return version_of(self.registry.basis, user, number)

    async def _read(self, user_id: str) -> PreferenceLog:
        async with self.begin(read_only=True) as uow:
            return await read_log(uow, user_id)

    async def _rescore(self, stale: Sequence[Comparison], basis_version: str) -> int:
        """Score again what fits into the active model's context; returns how many did."""
        rescored = []
        for comparison in stale:
            try:
                rewards = await self.decoder.basis_rewards(comparison.prompt, [comparison.first, comparison.second])
            except PromptTooLong:
                continue
            differences = tuple((rewards[0] - rewards[1]).tolist())
            rescored.append(replace(comparison, basis_version=basis_version, differences=differences))
        if rescored:
            async with self.begin() as uow:
                await uow.preferences.rescore(rescored)
                await uow.commit()
        return len(rescored)
