"""Begin a questionnaire."""

from dataclasses import dataclass

from app.entities import Questionnaire, QuestionSource
from app.errors import UnknownTopic
from app.ports import BeginUnitOfWork, Clock, UnitOfWork
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimator
from app.services.identifiers import new_id
from app.services.next_questions import NextQuestions
from app.services.questionnaires import Known, QuestionnaireState, read_known, state_of


@dataclass(frozen=True)
class QuestionnaireOptions:
    """How long a questionnaire is, how many questions it asks at once, and where they come from.

    ``prompts`` are what the engine writes questions on, in the place of the pool's prompts.
    """

    max_questions: int = 10
    target_certainty: float | None = None
    topic: str | None = None
    batch_size: int = 1
    source: QuestionSource = "pool"
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class StartQuestionnaire:
    """Begin a questionnaire with the questions that tell most about this person; nothing is stored without them."""

    begin: BeginUnitOfWork
    estimator: Estimator
    estimate: EstimatePreferences
    next: NextQuestions
    clock: Clock

    async def __call__(self, user_id: str, options: QuestionnaireOptions) -> QuestionnaireState:
        """The first questions.

        Raises ``UserNotFound``, ``UnknownTopic``, and the errors of ``NextQuestions.write``.
        """
        empty = self._empty(user_id, options)
        await self.estimate.current_log(user_id)
        async with self.begin() as uow:
            await uow.users.get(user_id, for_update=True)
            known = await read_known(uow, self.estimator, user_id)
            begun = self.next.without_engine(empty, known.estimate, known.asked)
            if begun is not None:
                return await self._keep(uow, begun, known)
        choices = await self.next.write(empty, known.estimate, known.asked)
        async with self.begin() as uow:
            await uow.users.get(user_id, for_update=True)
            known = await read_known(uow, self.estimator, user_id)
            begun = self.next.with_written(empty, known.estimate, known.asked, choices)
            return await self._keep(uow, begun, known)

    async def _keep(self, uow: UnitOfWork, begun: Questionnaire, known: Known) -> QuestionnaireState:
        await uow.questionnaires.add(begun)
        await uow.commit()
        return state_of(begun, self.estimator, known.log, known.estimate, just_completed=begun.status == "complete")

    def _empty(self, user_id: str, options: QuestionnaireOptions) -> Questionnaire:
        registry, now = self.estimator.registry, self.clock()
        known = registry.pool.topic_codes
        if options.topic is not None and options.topic not in known:
            raise UnknownTopic(options.topic, tuple(known))
        return Questionnaire(
            id=new_id("qnr", now),
            user_id=user_id,
            basis_version=registry.basis.version,
            max_questions=options.max_questions,
            target_certainty=options.target_certainty,
            topic=options.topic,
            status="active",
            stop_reason=None,
            questions=(),
            created_at=now,
            batch_size=options.batch_size,
            source=options.source,
            prompts=options.prompts,
        )
