"""A service in memory: the fake database, the scripted engine and a clock that moves a second a look."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from app.engines import ActiveBasis, scripted_basis
from app.generation.scripted import ScriptedEngine
from app.services.adjust_preferences import AdjustPreferences
from app.services.answer_question import AnswerQuestion, GivenAnswer
from app.services.delete_user import DeleteUser
from app.services.estimate_preferences import EstimatePreferences
from app.services.export_user import ExportUser
from app.services.finish_questionnaire import FinishQuestionnaire
from app.services.get_questionnaire import GetQuestionnaire
from app.services.get_user import GetUser
from app.services.personal_belief import PersonalBelief
from app.services.put_user import PutUser, UserChanges
from app.services.questionnaires import QuestionnaireState
from app.services.rank import RankResponses
from app.services.record_comparisons import RecordComparisons
from app.services.reset_preferences import ResetPreferences
from app.services.respond import Respond
from app.services.start_questionnaire import StartQuestionnaire
from tests.fakes.storage import FakeDatabase

_SCRIPTED: list[ActiveBasis] = []  # made once: it never changes


class TickingClock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class WatchedEngine(ScriptedEngine):
    """Fails where the engine is awaited while a transaction is open."""

    def __init__(self, database: FakeDatabase, **options: Any) -> None:
        super().__init__(**options)
        self._database = database

    async def candidates(self, *arguments: Any) -> Any:
        assert self._database.open_units == 0, "the engine was awaited with a transaction open"
        return await super().candidates(*arguments)

    async def basis_rewards(self, *arguments: Any) -> Any:
        assert self._database.open_units == 0, "the engine was awaited with a transaction open"
        return await super().basis_rewards(*arguments)


@dataclass
class World:
    """Every use case over one memory."""

    database: FakeDatabase
    engine: WatchedEngine
    active: ActiveBasis
    clock: TickingClock
    seed: int = 0

    def __post_init__(self) -> None:
        begin, active, engine, clock = self.database.begin, self.active, self.engine, self.clock
        rng = np.random.default_rng(self.seed)
        self.estimate = EstimatePreferences(begin, active, engine)
        belief = PersonalBelief(active, self.estimate)
        self.put_user = PutUser(begin, clock)
        self.get_user = GetUser(begin)
        self.delete_user = DeleteUser(begin, clock)
        self.export_user = ExportUser(begin, self.estimate)
        self.adjust = AdjustPreferences(begin, active, self.estimate, clock)
        self.reset = ResetPreferences(begin, active, clock)
        self.start = StartQuestionnaire(begin, active, self.estimate, clock, rng)
        self.look = GetQuestionnaire(begin, active)
        self.answer = AnswerQuestion(begin, active, engine, self.estimate, clock, rng)
        self.finish = FinishQuestionnaire(begin, active)
        self.record = RecordComparisons(begin, active, engine, clock)
        self.respond = Respond(belief, engine, clock, rng)
        self.rank = RankResponses(belief, engine)

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

    async def answer_all(self, state: QuestionnaireState, preferred: Any = "first") -> QuestionnaireState:
        """Give the same answer to every question until the end."""
        while state.question is not None:
            state = await self.answer(state.questionnaire.id, GivenAnswer(state.question.id, preferred))
        return state

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
