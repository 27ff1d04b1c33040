"""What follows in a questionnaire: its next questions, from the pool or from the engine, or the reason why it ends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from app.entities import Question, Questionnaire, StopReason
from app.ports import Clock
from app.preferences.choice import change_probability
from app.preferences.stopping import MINIMUM_CHANGE, stop_reason
from app.services.estimator import Estimate
from app.services.generated_questions import ENGINE_TROUBLE, GeneratedQuestions
from app.services.identifiers import new_id
from app.services.pool_questions import Choice, PoolQuestions
from app.services.questionnaires import Asked


@dataclass(frozen=True)
class NextQuestions:
    """Continues a questionnaire that has no open question.

    Nothing more is asked once the chance that another candidate would be the person's best is below
    ``minimum_change``; zero asks on, and so does a basis without sets of candidates to tell it by.
    """

    pool: PoolQuestions
    generated: GeneratedQuestions
    clock: Clock
    rng: np.random.Generator
    minimum_change: float = MINIMUM_CHANGE

    def without_engine(self, questionnaire: Questionnaire, estimate: Estimate, asked: Asked) -> Questionnaire | None:
        """The questionnaire with its next questions, or complete; None where the engine is to ``write`` first."""
        enough = _stop(questionnaire, estimate, np.inf, self._change(estimate), self.minimum_change)
        if enough is not None:
            return _ended(questionnaire, enough)
        if questionnaire.source == "generated":
            return None
        continued = self._from_pool(questionnaire, estimate, asked)
        return None if continued.status == "complete" and questionnaire.source == "auto" else continued

    async def write(self, questionnaire: Questionnaire, estimate: Estimate, asked: Asked) -> list[Choice]:
        """What the engine wrote to be asked next; nothing where "auto" meets trouble of the engine.

        Must not be awaited in a transaction. Raises the errors of ``GeneratedQuestions``.
        """
        try:
            return await self.generated(estimate.belief, asked, questionnaire, questionnaire.next_batch)
        except ENGINE_TROUBLE:
            if questionnaire.source == "generated":
                raise
            return []

    def with_written(
        self, questionnaire: Questionnaire, estimate: Estimate, asked: Asked, choices: Sequence[Choice]
    ) -> Questionnaire:
        """The questionnaire with what the engine wrote; without any, "auto" goes on as the pool alone would."""
        if choices:
            return self._with(questionnaire, choices, estimate)
        if questionnaire.source == "auto":
            return self._from_pool(questionnaire, estimate, asked)
        return _ended(questionnaire, "low_information")

    def _from_pool(self, questionnaire: Questionnaire, estimate: Estimate, asked: Asked) -> Questionnaire:
        choices = self.pool(estimate.belief, asked, questionnaire.topic, questionnaire.next_batch)
        best = max((choice.expected_information_bits for choice in choices), default=None)
        reason = _stop(questionnaire, estimate, best)
        return self._with(questionnaire, choices, estimate) if reason is None else _ended(questionnaire, reason)

    def _change(self, estimate: Estimate) -> float | None:
        """Chance that another candidate would be the person's best; None where it does not matter or is not known."""
        sets = estimate.basis.candidate_sets
        return change_probability(estimate.belief, sets) if sets.size and self.minimum_change > 0.0 else None

    def _with(self, questionnaire: Questionnaire, choices: Sequence[Choice], estimate: Estimate) -> Questionnaire:
        """The questionnaire with ``choices`` as its open questions, the sides of each in random order."""
        now, asked = self.clock(), len(questionnaire.questions)
        added = tuple(
            Question(
                id=new_id("qst", now),
                questionnaire_id=questionnaire.id,
                position=asked + number,
                pair=choice.pair,
                swapped=bool(self.rng.integers(2)),
                expected_information_bits=choice.expected_information_bits,
                answer=None,
                latency_ms=None,
                basis_version=estimate.basis.version,
                differences=choice.differences,
            )
            for number, choice in enumerate(choices)
        )
        return replace(questionnaire, questions=(*questionnaire.questions, *added))


def _stop(
    questionnaire: Questionnaire,
    estimate: Estimate,
    best_bits: float | None,
    change: float | None = None,
    minimum_change: float = MINIMUM_CHANGE,
) -> StopReason | None:
    return stop_reason(
        answered=questionnaire.answered,
        max_questions=questionnaire.max_questions,
        certainty=estimate.certainty,
        target_certainty=questionnaire.target_certainty,
        best_information_bits=best_bits,
        change=change,
        minimum_change=minimum_change,
    )


def _ended(questionnaire: Questionnaire, reason: StopReason) -> Questionnaire:
    return replace(questionnaire, status="complete", stop_reason=reason)
