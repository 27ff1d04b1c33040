"""Look at a questionnaire."""

from dataclasses import dataclass

from app.ports import BeginUnitOfWork
from app.services.estimator import Estimator
from app.services.questionnaires import QuestionnaireState, read_state


@dataclass(frozen=True)
class GetQuestionnaire:
    """The open questions, the same ones until they are answered."""

    begin: BeginUnitOfWork
    estimator: Estimator

    async def __call__(self, questionnaire_id: str) -> QuestionnaireState:
        """The state; raises ``QuestionnaireNotFound``."""
        async with self.begin(read_only=True) as uow:
            questionnaire = await uow.questionnaires.get(questionnaire_id)
            return await read_state(uow, self.estimator, questionnaire)
