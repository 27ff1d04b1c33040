"""Look at a questionnaire."""

from dataclasses import dataclass

from app.ports import BasisRegistry, BeginUnitOfWork
from app.services.questionnaires import QuestionnaireState, read_state


@dataclass(frozen=True)
class GetQuestionnaire:
    """The current question, the same one until it is answered."""

    begin: BeginUnitOfWork
    registry: BasisRegistry

    async def __call__(self, questionnaire_id: str) -> QuestionnaireState:
        """The state; raises ``QuestionnaireNotFound``."""
        async with self.begin(read_only=True) as uow:
            questionnaire = await uow.questionnaires.get(questionnaire_id)
            return await read_state(uow, self.registry.basis, questionnaire)
