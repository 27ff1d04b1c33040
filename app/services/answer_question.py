"""Take an answer to a question and ask the next ones."""

from dataclasses import dataclass, replace

from app.entities import Answer, Comparison, Message, Question, Questionnaire
from app.errors import PromptTooLong, QuestionAlreadyAnswered, QuestionnaireComplete, QuestionNotFound
from app.ports import BeginUnitOfWork, Clock, Decoder, UnitOfWork
from app.services.continue_questionnaire import ContinueQuestionnaire, lock
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimator
from app.services.identifiers import new_id
from app.services.questionnaires import QuestionnaireState

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
class AnswerQuestion:
    """Store an answer with its comparison and the next questions, all in one transaction or not at all.

    Only questions that the engine has to write follow in a transaction of their own: the answer is safe before the
    engine is asked, and the same answer again asks it again, as ``ContinueQuestionnaire`` does.
    """

    begin: BeginUnitOfWork
    estimator: Estimator
    estimate: EstimatePreferences
    following: ContinueQuestionnaire
    decoder: Decoder
    clock: Clock

    async def __call__(self, questionnaire_id: str, given: GivenAnswer) -> QuestionnaireState:
        """The state with the open questions, the next ones where none was left, or the end.

        The same answer again changes nothing. Raises ``QuestionnaireNotFound``, ``QuestionNotFound``,
        ``QuestionAlreadyAnswered`` for another answer, ``QuestionnaireComplete``, and the errors of
        ``NextQuestions.write``.
        """
        async with self.begin(read_only=True) as uow:
            known = await uow.questionnaires.get(questionnaire_id)
            question = _find(known, given.question_id)
        if _is_repetition(known, question, given):
            return await self.following(questionnaire_id)
        score = ("", ()) if given.preferred == "skip" else await self._score(question)
        await self.estimate.current_log(known.user_id)
        async with self.begin() as uow:
            questionnaire = await lock(uow, known)
            question = _find(questionnaire, given.question_id)
            if not _is_repetition(questionnaire, question, given):
                await self._store(uow, questionnaire, question, given, score)
            progress = await self.following.progress(uow, await uow.questionnaires.get(questionnaire_id))
            state = await self.following.without_engine(uow, progress)
            await uow.commit()
        return await self.following.with_engine(progress) if state is None else state

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
