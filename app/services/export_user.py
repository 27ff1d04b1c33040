"""Hand a person everything that is stored about them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from app.entities import Adjustment, Comparison, Questionnaire, User
from app.ports import BeginUnitOfWork
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimate


@dataclass(frozen=True)
class UserExport:
    """All that is stored about a person, before and after resets, and what is derived from it."""

    user: User
    comparisons: Sequence[Comparison]
    adjustments: Sequence[Adjustment]
    resets: Sequence[datetime]
    questionnaires: Sequence[Questionnaire]
    estimate: Estimate


@dataclass(frozen=True)
class ExportUser:
    """Export one user."""

    begin: BeginUnitOfWork
    estimate: EstimatePreferences

    async def __call__(self, user_id: str) -> UserExport:
        """Everything; raises ``UserNotFound``."""
        current = await self.estimate(user_id)
        async with self.begin(read_only=True) as uow:
            return UserExport(
                user=await uow.users.get(user_id),
                comparisons=await uow.preferences.comparisons(user_id, since_reset=False),
                adjustments=await uow.preferences.adjustments(user_id, since_reset=False),
                resets=await uow.preferences.resets(user_id),
                questionnaires=await uow.questionnaires.of_user(user_id),
                estimate=current,
            )
