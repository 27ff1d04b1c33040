"""A service in memory: the fake database, the scripted engine and a clock that moves a second a look."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from app.engines import ActiveBasis, scripted_basis
from app.entities import Candidate, CandidateSet, Conversation, FrontierPoint, QuestionPool
from app.generation.scripted import ScriptedEngine
from app.preferences.belief import Prior
from app.services.adjust_preferences import AdjustPreferences
from app.services.answer_question import AnswerQuestion, GivenAnswer
from app.services.continue_questionnaire import ContinueQuestionnaire
from app.services.delete_user import DeleteUser
from app.services.estimate_preferences import EstimatePreferences
from app.services.estimator import Estimator
from app.services.export_user import ExportUser
from app.services.finish_questionnaire import FinishQuestionnaire
from app.services.generated_questions import GeneratedQuestions
from app.services.get_questionnaire import GetQuestionnaire
from app.services.get_user import GetUser
from app.services.next_questions import NextQuestions
from app.services.personal_belief import PersonalBelief
from app.services.pool_questions import PoolQuestions
from app.services.put_user import PutUser, UserChanges
from app.services.questionnaires import QuestionnaireState
from app.services.rank import RankResponses
from app.services.record_comparisons import RecordComparisons
from app.services.reset_preferences import ResetPreferences
from app.services.respond import Respond
from app.services.start_questionnaire import QuestionnaireOptions, StartQuestionnaire
from app.services.stream_response import StreamResponse
from tests.fakes.storage import FakeDatabase

_SCRIPTED: list[ActiveBasis] = []  # made once: it never changes


class TickingClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class WatchedEngine(ScriptedEngine):
    """Fails where the engine is awaited while a transaction is open.

    Writes ``texts`` in turn, where there are any, and always the same for ``dull_prompts``; rewards seen while decoding
    are off by up to ``decoding_error``. Answers no call after ``stall_after``. What is to happen ``meanwhile`` happens
    once, during the next decoding.
    """

    def __init__(self, database: FakeDatabase, **options: Any) -> None:
        super().__init__(**options)
        self._database = database
        self.texts: tuple[str, ...] = ()
        self.dull_prompts: frozenset[str] = frozenset()
        self.decoding_error = 0.0
        self.stall_after: int | None = None
        self.forgotten = 0
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        self._calls_left, self._error = -2, Exception()

    def fail_after(self, calls: int, error: Exception) -> None:
        """Let the call after the next ``calls`` raise ``error``."""
        self._calls_left, self._error = calls, error

    async def _count(self) -> None:
        if self.stall_after is not None:
            self.stall_after -= 1
            if self.stall_after < 0:
                await asyncio.Event().wait()
        self._calls_left -= 1
        if self._calls_left == -1:
            self.fail_next(self._error)

    async def candidates(self, conversation: Conversation, *arguments: Any, **options: Any) -> CandidateSet:
        await self._count()
        assert self._database.open_units == 0, "the engine was awaited with a transaction open"
        if self.meanwhile is not None:
            happening, self.meanwhile = self.meanwhile, None
            await happening()
        drawn = await super().candidates(conversation, *arguments, **options)
        texts = ("yes",) if conversation[-1].content in self.dull_prompts else self.texts
        told = [self._as_told(number, one, texts) for number, one in enumerate(drawn.candidates)]
        return replace(drawn, candidates=tuple(told))

    def _as_told(self, number: int, candidate: Candidate, texts: tuple[str, ...]) -> Candidate:
        if candidate.finish_reason == "dropped":
            return candidate
        text = texts[number % len(texts)] if texts else candidate.text
        error = self.decoding_error * np.random.default_rng(number).uniform(-1.0, 1.0, self.size)
        return replace(candidate, text=text, basis_rewards=self._rewards(text) + error)

    async def stream(self, *arguments: Any, **options: Any) -> AsyncGenerator[str | CandidateSet, None]:
        await self._count()
        assert self._database.open_units == 0, "the engine was awaited with a transaction open"
        async with aclosing(super().stream(*arguments, **options)) as pieces:
            async for piece in pieces:
                yield piece

    async def forget(self) -> None:
        await self._count()
        assert self._database.open_units == 0, "the engine was awaited with a transaction open"
        self.forgotten += 1

    async def basis_rewards(self, *arguments: Any, **options: Any) -> Any:
        await self._count()
        assert self._database.open_units == 0, "the engine was awaited with a transaction open"
        return await super().basis_rewards(*arguments, **options)


@dataclass
class World:
    """Every use case over one memory."""

    database: FakeDatabase
    engine: WatchedEngine
    active: ActiveBasis
    clock: TickingClock
    seed: int = 0
    half_life_days: float | None = None
    rule: str = "expected_information"
    minimum_change: float = 0.0
    max_tokens: int = 96
    writing_seconds: float = 30.0

    def __post_init__(self) -> None:
        begin, active, engine, clock = self.database.begin, self.active, self.engine, self.clock
        rng = np.random.default_rng(self.seed)
        estimator = Estimator(active, self.half_life_days)
        self.estimate = EstimatePreferences(begin, estimator, engine)
        pool = PoolQuestions(active, rng, self.rule)
        generated = GeneratedQuestions(
            active, engine, rng, max_tokens=self.max_tokens, timeout_seconds=self.writing_seconds
        )
        asking = NextQuestions(pool, generated, clock, rng, self.minimum_change)
        self.resume = ContinueQuestionnaire(begin, estimator, self.estimate, asking)
        self.belief = PersonalBelief(active, self.estimate)
        self.put_user = PutUser(begin, clock)
        self.get_user = GetUser(begin)
        self.delete_user = DeleteUser(begin, clock, engine)
        self.export_user = ExportUser(begin, self.estimate)
        self.adjust = AdjustPreferences(begin, estimator, self.estimate, clock)
        self.reset = ResetPreferences(begin, estimator, clock)
        self._start = StartQuestionnaire(begin, estimator, self.estimate, asking, clock)
        self.look = GetQuestionnaire(begin, estimator)
        self.answer = AnswerQuestion(begin, estimator, self.estimate, self.resume, engine, clock)
        self.finish = FinishQuestionnaire(begin, estimator)
        self.record = RecordComparisons(begin, active, engine, clock)
        self.respond = Respond(self.belief, engine, clock, rng)
        self.stream = StreamResponse(self.respond)
        self.rank = RankResponses(self.belief, engine)

    @classmethod
    async def create(cls, seed: int = 0) -> "World":
        """With one user, ``ada``."""
        database = FakeDatabase()
        engine = WatchedEngine(database)
        if not _SCRIPTED:
            _SCRIPTED.append(await scripted_basis(engine))
        world = cls(database, engine, _SCRIPTED[0], TickingClock(), seed)
        await world.put_user("ada", UserChanges(frozenset()))
        return world

    async def start(self, user_id: str, max_questions: int, **options: Any) -> QuestionnaireState:
        return await self._start(user_id, QuestionnaireOptions(max_questions, **options))

    async def answer_all(self, state: QuestionnaireState, preferred: Any = "first") -> QuestionnaireState:
        """Give the same answer to every question until the end."""
        while state.question is not None:
            state = await self.answer(state.questionnaire.id, GivenAnswer(state.question.id, preferred))
        return state

    def with_pool(self, pool: QuestionPool, **options: Any) -> "World":
        """The same memory and engine with another pool; ``options`` are fields of the world."""
        return World(self.database, self.engine, ActiveBasis(self.active.basis, pool), self.clock, self.seed, **options)

    def with_pairs(self, count: int) -> "World":
        """The same with the first ``count`` pairs of the pool alone."""
        pool = self.active.pool
        return self.with_pool(replace(pool, pairs=pool.pairs[:count], differences=pool.differences[:count]))

    def with_prior(self, prior: Prior) -> "World":
        """The same memory and engine with other people in mind."""
        active = ActiveBasis(replace(self.active.basis, prior=prior), self.active.pool)
        return World(self.database, self.engine, active, self.clock, self.seed)

    def with_frontier(self, frontier: Sequence[FrontierPoint]) -> "World":
        """The same memory and engine with ways to answer that were measured."""
        return World(self.database, self.engine, replace(self.active, frontier=frontier), self.clock, self.seed)

    def on_another_basis(self, version: str = "newer") -> "World":
        """The same memory after a release with another basis, which weighs words in the other direction."""
        engine = WatchedEngine(self.database, basis_version=version)
        basis = replace(self.active.basis, version=version)
        pool = replace(self.active.pool, basis_version=version)
        return World(self.database, engine, ActiveBasis(basis, pool), self.clock, self.seed)


@contextmanager
def nothing_written(world: World) -> Iterator[None]:
    """Assert that the block leaves the memory as it was."""
    before = world.database.commits
    yield
    assert world.database.commits == before
