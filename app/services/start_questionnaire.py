"""Begin a questionnaire."""

from dataclasses import dataclass

import numpy as np

from app.entities import Questionnaire
from app.errors import UnknownTopic
from app.ports import BasisRegistry, BeginUnitOfWork, Clock
from app.services.estimate_preferences import EstimatePreferences, estimate, read_log
from app.services.identifiers import new_id
from app.services.questionnaires import QuestionnaireState, continue_or_stop, read_asked, state_of, topics


@dataclass(frozen=True)
class StartQuestionnaire:
    """Begin a questionnaire with the question that tells most about this person."""

    begin: BeginUnitOfWork
    registry: BasisRegistry
    estimate: EstimatePreferences
    clock: Clock
    rng: np.random.Generator

    async def __call__(
        self, user_id: str, max_questions: int, target_certainty: float | None = None, topic: str | None = None
    ) -> QuestionnaireState:
        """The first question; raises ``UserNotFound`` or ``UnknownTopic``."""
        basis, pool, now = self.registry.basis, self.registry.pool, self.clock()
        if topic is not None and topic not in topics(pool):
            raise UnknownTopic(topic, tuple(topics(pool)))
        await self.estimate.current_log(user_id)
        async with self.begin() as uow:
            await uow.users.get(user_id, for_update=True)
            log, asked = await read_log(uow, user_id), await read_asked(uow, user_id)
            empty = Questionnaire(
                id=new_id("qnr", now),
                user_id=user_id,
                basis_version=basis.version,
                max_questions=max_questions,
                target_certainty=target_certainty,
                topic=topic,
                status="active",
                stop_reason=None,
                questions=(),
                created_at=now,
            )
            belief = estimate(basis, log)
            questionnaire = continue_or_stop(empty, pool, belief, asked, self.rng, now)
            await uow.questionnaires.add(questionnaire)
            await uow.commit()
        return state_of(questionnaire, log, belief, just_completed=questionnaire.status == "complete")
