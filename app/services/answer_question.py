"""Take an answer to a question and ask the next one."""

from dataclasses import dataclass, replace

import numpy as np

from app.entities import Answer, Comparison, Message, Question, Questionnaire
from app.errors import PromptTooLong, QuestionAlreadyAnswered, QuestionnaireComplete, QuestionNotFound
from app.ports import BasisRegistry, BeginUnitOfWork, Clock, Decoder, UnitOfWork
from app.services.estimate_preferences import EstimatePreferences, estimate, read_log
from app.services.identifiers import new_id
from app.services.questionnaires import QuestionnaireState, continue_or_stop, read_asked, read_state, state_of

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
    """Store an answer with its comparison and the next question, all in one transaction or not at all."""

    begin: BeginUnitOfWork
    registry: BasisRegistry
    decoder: Decoder
    estimate: EstimatePreferences
    clock: Clock
    rng: np.random.Generator

    async def __call__(self, questionnaire_id: str, given: GivenAnswer) -> QuestionnaireState:
        """The state with the next question, or the end.

        The same answer again changes nothing. Raises ``QuestionnaireNotFound``, ``QuestionNotFound``,
        ``QuestionAlreadyAnswered`` for another answer, and ``QuestionnaireComplete``.
        """
        async with self.begin(read_only=True) as uow:
            known = await uow.questionnaires.get(questionnaire_id)
            question = _find(known, given.question_id)
            if _is_repetition(known, question, given):
                return await read_state(uow, self.registry.basis, known)
        score = ("", ()) if given.preferred == "skip" else await self._score(question)
        await self.estimate.current_log(known.user_id)
        async with self.begin() as uow:
            await uow.users.get(known.user_id, for_update=True)
            questionnaire = await uow.questionnaires.get(questionnaire_id, for_update=True)
            question = _find(questionnaire, given.question_id)
            if _is_repetition(questionnaire, question, given):
                return await read_state(uow, self.registry.basis, questionnaire)
            await self._store(uow, questionnaire, question, given, score)
            state = await self._continue(uow, await uow.questionnaires.get(questionnaire_id))
            await uow.commit()
        return state

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

    async def _continue(self, uow: UnitOfWork, questionnaire: Questionnaire) -> QuestionnaireState:
        log = await read_log(uow, questionnaire.user_id)
        belief = estimate(self.registry.basis, log)
        asked = await read_asked(uow, questionnaire.user_id)
        continued = continue_or_stop(questionnaire, self.registry.pool, belief, asked, self.rng, self.clock())
        ended = continued.status == "complete"
        if ended:
            await uow.questionnaires.finish(continued)
        else:
            await uow.questionnaires.add_question(continued.questions[-1])
        return state_of(continued, log, belief, just_completed=ended)

    async def _score(self, question: Question) -> Score:
        """First minus second as shown, from the pool, or by the engine for a pair that the pool no longer has.

        Such a pair may be too long for the active model; its answer is kept without a score.
        """
        pool, pair, version = self.registry.pool, question.pair, self.registry.basis.version
        if pair.number < len(pool.pairs) and pool.pairs[pair.number] == pair:
            row = pool.differences[pair.number]
            return version, tuple((-row if question.swapped else row).tolist())
        prompt = (Message("user", pair.prompt),)
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
