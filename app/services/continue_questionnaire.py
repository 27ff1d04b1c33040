"""Ask what follows in a questionnaire that has no open question."""

from dataclasses import dataclass

from app.entities import Questionnaire
from app.ports import BeginUnitOfWork, UnitOfWork
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimator
from app.services.next_questions import NextQuestions
from app.services.questionnaires import Known, QuestionnaireState, read_known, read_state, state_of


@dataclass(frozen=True)
class Progress:
    """A questionnaire, with all that its next questions depend on."""

    questionnaire: Questionnaire
    known: Known


@dataclass(frozen=True)
class ContinueQuestionnaire:
    """Ask the next questions of a questionnaire that waits for them; any other stays as it is.

    It waits where the engine failed to write them, or the process ended before it did. Questions of the pool are
    stored in one transaction; the engine is asked with none open, and what it wrote is stored in another.
    """

    begin: BeginUnitOfWork
    estimator: Estimator
    estimate: EstimatePreferences
    next: NextQuestions

    async def __call__(self, questionnaire_id: str) -> QuestionnaireState:
        """The state with the open questions, or the end.

        Raises ``QuestionnaireNotFound``, and the errors of ``NextQuestions.write``.
        """
        async with self.begin(read_only=True) as uow:
            questionnaire = await uow.questionnaires.get(questionnaire_id)
            if not _waits(questionnaire):
                return await read_state(uow, self.estimator, questionnaire)
        await self.estimate.current_log(questionnaire.user_id)
        async with self.begin() as uow:
            progress = await self.progress(uow, await lock(uow, questionnaire))
            state = await self.without_engine(uow, progress)
            await uow.commit()
        return await self.with_engine(progress) if state is None else state

    async def progress(self, uow: UnitOfWork, questionnaire: Questionnaire) -> Progress:
        """A questionnaire that was just read or changed, with what is known now of its person."""
        return Progress(questionnaire, await read_known(uow, self.estimator, questionnaire.user_id))

    async def without_engine(self, uow: UnitOfWork, progress: Progress) -> QuestionnaireState | None:
        """The state with what follows, stored; None where ``with_engine`` has to tell."""
        continued: Questionnaire | None = progress.questionnaire
        if _waits(progress.questionnaire):
            continued = self.next.without_engine(progress.questionnaire, progress.known.estimate, progress.known.asked)
        return None if continued is None else await self._keep(uow, progress, continued)

    async def with_engine(self, progress: Progress) -> QuestionnaireState:
        """The state with the engine's questions, or with those that somebody else stored meanwhile."""
        before = progress.questionnaire
        choices = await self.next.write(before, progress.known.estimate, progress.known.asked)
        async with self.begin() as uow:
            current = await lock(uow, before)
            if not _waits(current) or len(current.questions) != len(before.questions):
                return await read_state(uow, self.estimator, current)
            now = await self.progress(uow, current)
            continued = self.next.with_written(current, now.known.estimate, now.known.asked, choices)
            state = await self._keep(uow, now, continued)
            await uow.commit()
        return state

    async def _keep(self, uow: UnitOfWork, progress: Progress, continued: Questionnaire) -> QuestionnaireState:
        """Store what was added to a questionnaire, or its end."""
        ended = continued.status == "complete" and progress.questionnaire.status == "active"
        if ended:
            await uow.questionnaires.finish(continued)
        for question in continued.questions[len(progress.questionnaire.questions) :]:
            await uow.questionnaires.add_question(question)
        known = progress.known
        return state_of(continued, self.estimator, known.log, known.estimate, just_completed=ended)


async def lock(uow: UnitOfWork, questionnaire: Questionnaire) -> Questionnaire:
    """The questionnaire as it is now, locked with its person, so that changes of one person follow one another."""
    await uow.users.get(questionnaire.user_id, for_update=True)
    return await uow.questionnaires.get(questionnaire.id, for_update=True)


def _waits(questionnaire: Questionnaire) -> bool:
    return questionnaire.status == "active" and not questionnaire.open
