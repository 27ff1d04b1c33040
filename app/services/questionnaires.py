"""What the four questionnaire use cases share: the state they return, and the choice of the next question.

Runs inside their transactions, on numbers only; never asks the engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from app.entities import Basis, Question, Questionnaire, QuestionPool, StopReason
from app.ports import UnitOfWork
from app.preferences.posterior import Posterior
from app.preferences.selection import Selection, select_pair
from app.preferences.stopping import expected_remaining, stop_reason
from app.services.estimate_preferences import Estimate, PreferenceLog, estimate, read_log
from app.services.identifiers import new_id


@dataclass(frozen=True)
class QuestionnaireState:
    """A questionnaire as its person sees it; ``just_completed`` tells that this call ended it."""

    questionnaire: Questionnaire
    certainty: float
    expected_remaining: int
    just_completed: bool = False

    @property
    def question(self) -> Question | None:
        """The question to show; none once the questionnaire is complete."""
        return self.questionnaire.current if self.questionnaire.status == "active" else None


@dataclass(frozen=True)
class Asked:
    """What a person has been asked so far, in all their questionnaires."""

    prompts: frozenset[str]
    pairs: frozenset[tuple[str, str, str]]


async def read_asked(uow: UnitOfWork, user_id: str) -> Asked:
    """Prompts and pairs that the user has seen."""
    pairs = [
        question.pair
        for questionnaire in await uow.questionnaires.of_user(user_id)
        for question in questionnaire.questions
    ]
    return Asked(
        prompts=frozenset(pair.prompt_id for pair in pairs),
        pairs=frozenset((pair.prompt_id, pair.first, pair.second) for pair in pairs),
    )


async def read_state(
    uow: UnitOfWork, basis: Basis, questionnaire: Questionnaire, *, just_completed: bool = False
) -> QuestionnaireState:
    """The state of a questionnaire, given everything its person has said so far."""
    log = await read_log(uow, questionnaire.user_id)
    return state_of(questionnaire, log, estimate(basis, log), just_completed=just_completed)


def state_of(
    questionnaire: Questionnaire, log: PreferenceLog, belief: Estimate, *, just_completed: bool = False
) -> QuestionnaireState:
    """As ``read_state``, from a log that was read and fitted already."""
    initial = belief.certainty
    if questionnaire.target_certainty is not None:
        initial = estimate(belief.basis, _without(log, questionnaire)).certainty
    remaining = expected_remaining(
        answered=questionnaire.answered,
        max_questions=questionnaire.max_questions,
        certainty=belief.certainty,
        initial_certainty=initial,
        target_certainty=questionnaire.target_certainty,
    )
    remaining = remaining if questionnaire.status == "active" else 0
    return QuestionnaireState(questionnaire, belief.certainty, remaining, just_completed)


def _without(log: PreferenceLog, questionnaire: Questionnaire) -> PreferenceLog:
    own = {question.id for question in questionnaire.questions}
    return replace(log, comparisons=[item for item in log.comparisons if item.question_id not in own])


def continue_or_stop(
    questionnaire: Questionnaire,
    pool: QuestionPool,
    belief: Estimate,
    asked: Asked,
    rng: np.random.Generator,
    now: datetime,
) -> Questionnaire:
    """The questionnaire with its next question, or complete with the reason why there is none."""
    selection = choose_pair(pool, belief.posterior, asked, questionnaire.topic)
    reason: StopReason | None = stop_reason(
        answered=questionnaire.answered,
        max_questions=questionnaire.max_questions,
        certainty=belief.certainty,
        target_certainty=questionnaire.target_certainty,
        best_information_bits=selection.expected_information_bits if selection else None,
    )
    if reason or selection is None:
        return replace(questionnaire, status="complete", stop_reason=reason)
    question = Question(
        id=new_id("qst", now),
        questionnaire_id=questionnaire.id,
        position=len(questionnaire.questions),
        pair=pool.pairs[selection.index],
        swapped=bool(rng.integers(2)),
        expected_information_bits=selection.expected_information_bits,
        answer=None,
        latency_ms=None,
    )
    return replace(questionnaire, questions=(*questionnaire.questions, question))


def choose_pair(pool: QuestionPool, posterior: Posterior, asked: Asked, topic: str | None) -> Selection | None:
    """The pair that tells most about the person: of a new prompt while there is one, else a new pair of an old one."""
    fresh = [
        (topic is None or pair.topic == topic) and (pair.prompt_id, pair.first, pair.second) not in asked.pairs
        for pair in pool.pairs
    ]
    new_prompt = [new and pair.prompt_id not in asked.prompts for new, pair in zip(fresh, pool.pairs, strict=True)]
    allowed = np.array(new_prompt if any(new_prompt) else fresh, dtype=bool)
    return select_pair(posterior, pool.differences, allowed)


def topics(pool: QuestionPool) -> Sequence[str]:
    """Topics that the pool has questions on."""
    return sorted({pair.topic for pair in pool.pairs})
