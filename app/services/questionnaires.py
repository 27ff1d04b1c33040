"""What the questionnaire use cases share: the state they return, and what a person has been asked.

Runs inside their transactions, on numbers only; never asks the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from app.entities import CandidatePair, Question, Questionnaire, QuestionPool
from app.ports import UnitOfWork
from app.preferences.stopping import expected_remaining
from app.services.estimator import Estimate, Estimator
from app.services.preference_log import PreferenceLog, read_log


@dataclass(frozen=True)
class QuestionnaireState:
    """A questionnaire as its person sees it; ``just_completed`` tells that this call ended it."""

    questionnaire: Questionnaire
    certainty: float
    expected_remaining: int
    just_completed: bool = False

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions to show, in any order; none once the questionnaire is complete."""
        return self.questionnaire.open if self.questionnaire.status == "active" else ()

    @property
    def question(self) -> Question | None:
        """The first question to show."""
        return next(iter(self.questions), None)


@dataclass(frozen=True)
class Asked:
    """The questions that a person has been asked so far, in all their questionnaires."""

    questions: tuple[Question, ...]

    @property
    def pairs(self) -> Sequence[CandidatePair]:
        """The pairs that they have seen, one a question."""
        return [question.pair for question in self.questions]

    def compared(self, pair: CandidatePair) -> bool:
        """Whether they have seen the two texts of ``pair`` side by side, on either side."""
        texts = {pair.first, pair.second}
        return any(seen.prompt_id == pair.prompt_id and {seen.first, seen.second} == texts for seen in self.pairs)

    def differences(self, pool: QuestionPool) -> Float64[np.ndarray, "asked basis"]:
        """Rows of the pairs on the pool's basis; a generated pair that was scored on another basis has none."""
        size = pool.differences.shape[1]
        known = [question.differences for question in self.questions if question.basis_version == pool.basis_version]
        others = {question.pair.key for question in self.questions if question.basis_version != pool.basis_version}
        rows = sorted(pool.rows[key] for key in others if key in pool.rows)
        return np.concatenate([np.array(known, dtype=np.float64).reshape(-1, size), pool.differences[rows]])


@dataclass(frozen=True)
class Known:
    """All that the next questions to a person depend on: what they said, what follows from it, what they were asked."""

    log: PreferenceLog
    estimate: Estimate
    asked: Asked


async def read_known(uow: UnitOfWork, estimator: Estimator, user_id: str) -> Known:
    """What is known of a user; raises ``UserNotFound``."""
    log = await read_log(uow, user_id)
    return Known(log, estimator(log), Asked(tuple(await uow.questionnaires.questions_of_user(user_id))))


async def read_state(
    uow: UnitOfWork, estimator: Estimator, questionnaire: Questionnaire, *, just_completed: bool = False
) -> QuestionnaireState:
    """The state of a questionnaire, given everything its person has said so far."""
    log = await read_log(uow, questionnaire.user_id)
    return state_of(questionnaire, estimator, log, estimator(log), just_completed=just_completed)


def state_of(
    questionnaire: Questionnaire,
    estimator: Estimator,
    log: PreferenceLog,
    estimate: Estimate,
    *,
    just_completed: bool = False,
) -> QuestionnaireState:
    """As ``read_state``, from a log that was read and an estimate that was made of it already."""
    initial = estimate.certainty
    if questionnaire.target_certainty is not None:
        initial = estimator(_without(log, questionnaire)).certainty
    remaining = expected_remaining(
        answered=questionnaire.answered,
        max_questions=questionnaire.max_questions,
        certainty=estimate.certainty,
        initial_certainty=initial,
        target_certainty=questionnaire.target_certainty,
    )
    remaining = remaining if questionnaire.status == "active" else 0
    return QuestionnaireState(questionnaire, estimate.certainty, remaining, just_completed)


def _without(log: PreferenceLog, questionnaire: Questionnaire) -> PreferenceLog:
    own = {question.id for question in questionnaire.questions}
    return replace(log, comparisons=[item for item in log.comparisons if item.question_id not in own])
