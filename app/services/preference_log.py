"""Everything a person said, as one value to derive beliefs from. Knows nothing of how they are derived."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.entities import Adjustment, Comparison, User
from app.ports import UnitOfWork
from app.services.identifiers import time_of


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
