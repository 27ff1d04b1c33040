"""End a questionnaire early."""

from dataclasses import dataclass, replace

from app.ports import BeginUnitOfWork
from app.services.estimator import Estimator
from app.services.questionnaires import QuestionnaireState, read_state


@dataclass(frozen=True)
class FinishQuestionnaire:
    """End a questionnaire because the caller wants to; one that is complete already stays as it ended."""

    begin: BeginUnitOfWork
    estimator: Estimator

    async def __call__(self, questionnaire_id: str) -> QuestionnaireState:
        """The state afterwards; raises ``QuestionnaireNotFound``."""
        async with self.begin() as uow:
            questionnaire = await uow.questionnaires.get(questionnaire_id, for_update=True)
            was_active = questionnaire.status == "active"
            if was_active:
                questionnaire = replace(questionnaire, status="complete", stop_reason="finished_by_caller")
                await uow.questionnaires.finish(questionnaire)
            state = await read_state(uow, self.estimator, questionnaire, just_completed=was_active)
            await uow.commit()
        return state
