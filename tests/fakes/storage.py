"""A database in memory with the contract of the real one: rollback, snapshots, constraints and order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.entities import Adjustment, Comparison, Question, Questionnaire, User
from app.errors import QuestionAlreadyAnswered, QuestionnaireNotFound, StorageUnavailable, UserNotFound


@dataclass
class Rows:
    users: dict[str, User] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    adjustments: list[Adjustment] = field(default_factory=list)
    resets: list[tuple[str, int, int, datetime]] = field(default_factory=list)
    questionnaires: dict[str, Questionnaire] = field(default_factory=dict)

    def copy(self) -> "Rows":
        """Other containers of the same entities, which never change."""
        return Rows(
            dict(self.users),
            list(self.comparisons),
            list(self.adjustments),
            list(self.resets),
            dict(self.questionnaires),
        )


class FakeDatabase:
    """Writers take turns; ``commits`` counts what became durable; ``open_units`` tells who holds a transaction."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.commits = 0
        self.open_units = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def begin(self, *, read_only: bool = False) -> AsyncIterator["FakeUnitOfWork"]:
        if read_only:
            self.open_units += 1
            try:
                yield FakeUnitOfWork(self, self.rows.copy(), read_only=True)
            finally:
                self.open_units -= 1
            return
        async with self._turn:
            self.open_units += 1
            try:
                yield FakeUnitOfWork(self, self.rows.copy(), read_only=False)
            finally:
                self.open_units -= 1


class FakeUnitOfWork:
    def __init__(self, database: FakeDatabase, rows: Rows, *, read_only: bool) -> None:
        self._database, self._rows, self._read_only = database, rows, read_only
        self.users = FakeUsers(rows)
        self.preferences = FakePreferences(rows)
        self.questionnaires = FakeQuestionnaires(rows)

    async def commit(self) -> None:
        if self._read_only:
            raise StorageUnavailable("A read-only unit cannot commit.")
        self._database.rows = self._rows.copy()
        self._database.commits += 1


class FakeUsers:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, user_id: str, *, for_update: bool = False) -> User:
        if user_id not in self._rows.users:
            raise UserNotFound(user_id)
        return self._rows.users[user_id]

    async def find(self, user_id: str, *, for_update: bool = False) -> User | None:
        return self._rows.users.get(user_id)

    async def add(self, user: User) -> bool:
        return self._rows.users.setdefault(user.id, user) is user

    async def change(self, user: User) -> None:
        self._rows.users[(await self.get(user.id)).id] = user

    async def delete(self, user_id: str) -> dict[str, int]:
        rows, user = self._rows, await self.get(user_id)
        own = [item for item in rows.questionnaires.values() if item.user_id == user.id]
        counts = {
            "comparisons": sum(item.user_id == user_id for item in rows.comparisons),
            "adjustments": sum(item.user_id == user_id for item in rows.adjustments),
            "preference_resets": sum(item[0] == user_id for item in rows.resets),
            "questions": sum(len(item.questions) for item in own),
            "questionnaires": len(own),
            "users": 1,
        }
        rows.comparisons = [item for item in rows.comparisons if item.user_id != user_id]
        rows.adjustments = [item for item in rows.adjustments if item.user_id != user_id]
        rows.resets = [item for item in rows.resets if item[0] != user_id]
        for item in own:
            del rows.questionnaires[item.id]
        del rows.users[user_id]
        return counts


class FakePreferences:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def add_comparisons(self, comparisons: Sequence[Comparison]) -> None:
        for comparison in comparisons:
            if comparison.user_id not in self._rows.users:
                raise StorageUnavailable(f"user {comparison.user_id} violates a foreign key")
            taken = {item.question_id for item in self._rows.comparisons if item.question_id}
            if comparison.question_id in taken:
                raise StorageUnavailable(f"question {comparison.question_id} has a comparison")
            self._rows.comparisons.append(comparison)

    async def comparisons(self, user_id: str, *, since_reset: bool = True) -> list[Comparison]:
        after = max((item[1] for item in self._rows.resets if item[0] == user_id), default=0) if since_reset else 0
        return [item for item in self._rows.comparisons[after:] if item.user_id == user_id]

    async def rescore(self, comparisons: Sequence[Comparison]) -> None:
        new = {item.id: item for item in comparisons}
        self._rows.comparisons = [
            replace(item, basis_version=new[item.id].basis_version, differences=new[item.id].differences)
            if item.id in new
            else item
            for item in self._rows.comparisons
        ]

    async def add_adjustments(self, adjustments: Sequence[Adjustment]) -> None:
        self._rows.adjustments += adjustments

    async def adjustments(self, user_id: str, *, since_reset: bool = True) -> list[Adjustment]:
        after = max((item[2] for item in self._rows.resets if item[0] == user_id), default=0) if since_reset else 0
        return [item for item in self._rows.adjustments[after:] if item.user_id == user_id]

    async def reset(self, user_id: str, at: datetime) -> None:
        self._rows.resets.append((user_id, len(self._rows.comparisons), len(self._rows.adjustments), at))

    async def resets(self, user_id: str) -> list[datetime]:
        return [item[3] for item in self._rows.resets if item[0] == user_id]

    async def version(self, user_id: str) -> int:
        entries: list[object] = [*await self.comparisons(user_id, since_reset=False)]
        entries += await self.adjustments(user_id, since_reset=False)
        return len(entries) + len(await self.resets(user_id))


class FakeQuestionnaires:
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def get(self, questionnaire_id: str, *, for_update: bool = False) -> Questionnaire:
        if questionnaire_id not in self._rows.questionnaires:
            raise QuestionnaireNotFound(questionnaire_id)
        return self._rows.questionnaires[questionnaire_id]

    async def add(self, questionnaire: Questionnaire) -> None:
        if questionnaire.user_id not in self._rows.users:
            raise StorageUnavailable(f"user {questionnaire.user_id} violates a foreign key")
        self._rows.questionnaires[questionnaire.id] = questionnaire

    async def add_question(self, question: Question) -> None:
        questionnaire = await self.get(question.questionnaire_id)
        if any(item.position == question.position for item in questionnaire.questions):
            raise StorageUnavailable(f"position {question.position} is taken")
        self._replace(questionnaire, (*questionnaire.questions, question))

    async def answer(self, question: Question) -> None:
        questionnaire = await self.get(question.questionnaire_id)
        stored = next(item for item in questionnaire.questions if item.id == question.id)
        if stored.answer is not None:
            raise QuestionAlreadyAnswered(question.id, stored.answer)
        answered = replace(stored, answer=question.answer, latency_ms=question.latency_ms)
        questions = tuple(answered if item.id == question.id else item for item in questionnaire.questions)
        self._replace(questionnaire, questions)

    async def finish(self, questionnaire: Questionnaire) -> None:
        stored = await self.get(questionnaire.id)
        self._rows.questionnaires[questionnaire.id] = replace(
            stored, status=questionnaire.status, stop_reason=questionnaire.stop_reason
        )

    async def of_user(self, user_id: str) -> list[Questionnaire]:
        own = [item for item in self._rows.questionnaires.values() if item.user_id == user_id]
        return sorted(own, key=lambda item: (item.created_at, item.id))

    async def questions_of_user(self, user_id: str) -> list[Question]:
        return [question for item in await self.of_user(user_id) for question in item.questions]

    def _replace(self, questionnaire: Questionnaire, questions: tuple[Question, ...]) -> None:
        self._rows.questionnaires[questionnaire.id] = replace(questionnaire, questions=questions)
