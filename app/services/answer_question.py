"""Take an answer to a question and ask the next ones."""

from dataclasses import dataclass, replace

from app.entities import Answer, Comparison, Message, Question, Questionnaire
from app.errors import PromptTooLong, QuestionAlreadyAnswered, QuestionnaireComplete, QuestionNotFound
from app.ports import BeginUnitOfWork, Clock, Decoder, UnitOfWork
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimate, Estimator
from app.services.identifiers import new_id
from app.services.next_questions import NextQuestions
from app.services.preference_log import PreferenceLog, read_log
from app.services.questionnaires import Asked, QuestionnaireState, read_asked, read_state, state_of

Score = tuple[str, tuple[float, ...]]
"""A basis version, and the differences on it."""

UNSCORED = "unscored"
"""Basis version of a comparison whose differences are not known: stale on every basis, so scored once it can be."""


@dataclass(frozen=True)
class GivenAnswer:
    """What a person chose, for which question, and how long they took."""

    question_id: str
    preferred: Answer
    latency_ms: int | None = None


@dataclass(frozen=True)
class Progress:
    """A questionnaire after an answer, with all that its next questions depend on."""

    questionnaire: Questionnaire
    log: PreferenceLog
    estimate: Estimate
    asked: Asked


@dataclass(frozen=True)
class AnswerQuestion:
    """Store an answer with its comparison and the next questions, all in one transaction or not at all.

    Only questions that the engine has to write follow in a transaction of their own: the answer is safe before the
    engine is asked, and the same answer again asks it again.
    """

    begin: BeginUnitOfWork
    estimator: Estimator
    estimate: EstimatePreferences
    next: NextQuestions
    decoder: Decoder
    clock: Clock

    async def __call__(self, questionnaire_id: str, given: GivenAnswer) -> QuestionnaireState:
        """The state with the open questions, the next ones where none was left, or the end.

        The same answer again changes nothing. Raises ``QuestionnaireNotFound``, ``QuestionNotFound``,
        ``QuestionAlreadyAnswered`` for another answer, ``QuestionnaireComplete``, and the errors of ``Decoder`` where
        the engine alone writes the questions.
        """
        async with self.begin(read_only=True) as uow:
            known = await uow.questionnaires.get(questionnaire_id)
            question = _find(known, given.question_id)
            repeated = _is_repetition(known, question, given)
            if repeated and not _needs_questions(known):
                return await read_state(uow, self.estimator, known)
        score = ("", ()) if repeated or given.preferred == "skip" else await self._score(question)
        await self.estimate.current_log(known.user_id)
        async with self.begin() as uow:
            await uow.users.get(known.user_id, for_update=True)
            questionnaire = await uow.questionnaires.get(questionnaire_id, for_update=True)
            question = _find(questionnaire, given.question_id)
            if not _is_repetition(questionnaire, question, given):
                await self._store(uow, questionnaire, question, given, score)
            progress = await self._progress(uow, questionnaire_id)
            state = await self._continue(uow, progress)
            await uow.commit()
        return await self._ask_engine(progress) if state is None else state

    async def _store(
        self,
        uow: UnitOfWork,
        questionnaire: Questionnaire,
        question: Question,
        given: GivenAnswer,
        score: Score,
    ) -> None:
        await uow.questionnaires.answer(replace(question, answer=given.preferred, latency_ms=given.latency_ms))
        if given.preferred == "skip":
            return
        now, (basis_version, differences) = self.clock(), score
        comparison = Comparison(
            id=new_id("cmp", now),
            user_id=questionnaire.user_id,
            prompt=(Message("user", question.pair.prompt),),
            first=question.first,
            second=question.second,
            preferred=given.preferred,
            basis_version=basis_version,
            differences=differences,
            source="questionnaire",
            created_at=now,
            question_id=question.id,
        )
        await uow.preferences.add_comparisons([comparison])

    async def _progress(self, uow: UnitOfWork, questionnaire_id: str) -> Progress:
        questionnaire = await uow.questionnaires.get(questionnaire_id)
        log, asked = await read_log(uow, questionnaire.user_id), await read_asked(uow, questionnaire.user_id)
        return Progress(questionnaire, log, self.estimator(log), asked)

    async def _continue(self, uow: UnitOfWork, progress: Progress) -> QuestionnaireState | None:
        """The state with what follows, stored; None where the engine has to be asked first."""
        continued: Questionnaire | None = progress.questionnaire
        if _needs_questions(progress.questionnaire):
            continued = self.next.without_engine(progress.questionnaire, progress.estimate, progress.asked)
        return None if continued is None else await self._keep(uow, progress, continued)

    async def _ask_engine(self, progress: Progress) -> QuestionnaireState:
        """The state with the engine's questions, or with those that somebody else stored meanwhile."""
        continued = await self.next.with_engine(progress.questionnaire, progress.estimate, progress.asked)
        async with self.begin() as uow:
            questionnaire = progress.questionnaire
            await uow.users.get(questionnaire.user_id, for_update=True)
            current = await uow.questionnaires.get(questionnaire.id, for_update=True)
            if not _needs_questions(current) or len(current.questions) != len(questionnaire.questions):
                return await read_state(uow, self.estimator, current)
            state = await self._keep(uow, progress, continued)
            await uow.commit()
        return state

    async def _keep(self, uow: UnitOfWork, progress: Progress, continued: Questionnaire) -> QuestionnaireState:
        """Store what was added to a questionnaire, or its end."""
        ended = continued.status == "complete" and progress.questionnaire.status == "active"
        if ended:
            await uow.questionnaires.finish(continued)
        for question in continued.questions[len(progress.questionnaire.questions) :]:
            await uow.questionnaires.add_question(question)
        return state_of(continued, self.estimator, progress.log, progress.estimate, just_completed=ended)

    async def _score(self, question: Question) -> Score:
        """First minus second as shown, as scored when it was asked, or by the engine where that was on another basis.

        Such a pair may be too long for the active model; its answer is kept without a score.
        """
        version = self.estimator.registry.basis.version
        if question.basis_version == version:
            sign = -1.0 if question.swapped else 1.0
            return version, tuple(sign * difference for difference in question.differences)
        prompt = (Message("user", question.pair.prompt),)
        try:
            rewards = await self.decoder.basis_rewards(prompt, [question.first, question.second])
        except PromptTooLong:
            return UNSCORED, ()
        return version, tuple((rewards[0] - rewards[1]).tolist())


def _find(questionnaire: Questionnaire, question_id: str) -> Question:
    for question in questionnaire.questions:
        if question.id == question_id:
            return question
    raise QuestionNotFound(question_id)


def _is_repetition(questionnaire: Questionnaire, question: Question, given: GivenAnswer) -> bool:
    """Whether this answer is stored already; raises where it may not be stored."""
    if question.answer is not None:
        if question.answer != given.preferred:
            raise QuestionAlreadyAnswered(question.id, question.answer)
        return True
    if questionnaire.status == "complete":
        raise QuestionnaireComplete(questionnaire.id)
    return False


def _needs_questions(questionnaire: Questionnaire) -> bool:
    return questionnaire.status == "active" and not questionnaire.open
