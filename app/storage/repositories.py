"""Queries behind the repository ports, on one open connection. Knows no transaction and no use case."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.entities import Adjustment, CandidatePair, Comparison, Message, Question, Questionnaire, User
from app.errors import QuestionAlreadyAnswered, QuestionnaireNotFound, UserNotFound
from app.storage.tables import adjustments, comparisons, preference_resets, questionnaires, questions, users


class SqlUsers:
    """Users by id."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, user_id: str, *, for_update: bool = False) -> User:
        """The user, or ``UserNotFound``."""
        user = await self.find(user_id, for_update=for_update)
        if user is None:
            raise UserNotFound(user_id)
        return user

    async def find(self, user_id: str, *, for_update: bool = False) -> User | None:
        """The user, or None."""
        query = select(users).where(users.c.id == user_id)
        row = (await self._connection.execute(query.with_for_update() if for_update else query)).mappings().first()
        return User(**row) if row else None

    async def add(self, user: User) -> bool:
        """Insert unless the id is taken."""
        sqlite = self._connection.dialect.name == "sqlite"
        new = (sqlite_insert if sqlite else postgresql_insert)(users).values(asdict(user))
        query = new.on_conflict_do_nothing(index_elements=[users.c.id]).returning(users.c.id)
        return (await self._connection.execute(query)).first() is not None

    async def change(self, user: User) -> None:
        """Replace a user that exists."""
        stored = await self._connection.execute(update(users).where(users.c.id == user.id).values(asdict(user)))
        if stored.rowcount == 0:
            raise UserNotFound(user.id)

    async def delete(self, user_id: str) -> dict[str, int]:
        """Erase the user and every row that hangs on them, counted by table."""
        await self.get(user_id, for_update=True)
        own = select(questionnaires.c.id).where(questionnaires.c.user_id == user_id)
        conditions = {
            comparisons: comparisons.c.user_id == user_id,
            adjustments: adjustments.c.user_id == user_id,
            preference_resets: preference_resets.c.user_id == user_id,
            questions: questions.c.questionnaire_id.in_(own),
            questionnaires: questionnaires.c.user_id == user_id,
            users: users.c.id == user_id,
        }
        return {
            table.name: (await self._connection.execute(delete(table).where(condition))).rowcount
            for table, condition in conditions.items()
        }


class SqlPreferences:
    """The log that a person's coefficients are derived from."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add_comparisons(self, new: Sequence[Comparison]) -> None:
        """Append."""
        if new:
            await self._connection.execute(insert(comparisons), [_comparison_values(comparison) for comparison in new])

    async def comparisons(self, user_id: str, *, since_reset: bool = True) -> list[Comparison]:
        """All since the last reset, or all there ever were, oldest first."""
        after = await self._reset_at(user_id, "last_comparison") if since_reset else 0
        return [_comparison(row) for row in await self._log(comparisons, user_id, after)]

    async def rescore(self, rescored: Sequence[Comparison]) -> None:
        """Replace what is derived from the texts."""
        for comparison in rescored:
            values = {"basis_version": comparison.basis_version, "differences": list(comparison.differences)}
            await self._connection.execute(
                update(comparisons).where(comparisons.c.id == comparison.id).values(values),
            )

    async def add_adjustments(self, new: Sequence[Adjustment]) -> None:
        """Append."""
        if new:
            await self._connection.execute(insert(adjustments), [_adjustment_values(adjustment) for adjustment in new])

    async def adjustments(self, user_id: str, *, since_reset: bool = True) -> list[Adjustment]:
        """All since the last reset, or all there ever were, oldest first."""
        after = await self._reset_at(user_id, "last_adjustment") if since_reset else 0
        return [_adjustment(row) for row in await self._log(adjustments, user_id, after)]

    async def reset(self, user_id: str, at: datetime) -> None:
        """Leave everything written so far out of later reads."""
        values = {
            "user_id": user_id,
            "last_comparison": await self._last(comparisons, user_id),
            "last_adjustment": await self._last(adjustments, user_id),
            "created_at": at,
        }
        await self._connection.execute(insert(preference_resets).values(values))

    async def resets(self, user_id: str) -> list[datetime]:
        """When the preferences were reset, oldest first."""
        return [row["created_at"] for row in await self._log(preference_resets, user_id, 0)]

    async def version(self, user_id: str) -> int:
        """How many rows the log has."""
        count = 0
        for table in (comparisons, adjustments, preference_resets):
            query = select(func.count()).select_from(table).where(table.c.user_id == user_id)
            count += int((await self._connection.execute(query)).scalar_one())
        return count

    async def _log(self, table: Table, user_id: str, after: int) -> Sequence[Mapping[str, Any]]:
        query = select(table).where(table.c.user_id == user_id, table.c.sequence > after).order_by(table.c.sequence)
        return [dict(row) for row in (await self._connection.execute(query)).mappings()]

    async def _last(self, table: Table, user_id: str) -> int:
        query = select(func.coalesce(func.max(table.c.sequence), 0)).where(table.c.user_id == user_id)
        return int((await self._connection.execute(query)).scalar_one())

    async def _reset_at(self, user_id: str, column: str) -> int:
        resets = preference_resets.c
        query = select(func.coalesce(func.max(resets[column]), 0)).where(resets.user_id == user_id)
        return int((await self._connection.execute(query)).scalar_one())


class SqlQuestionnaires:
    """Questionnaires with their questions."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def get(self, questionnaire_id: str, *, for_update: bool = False) -> Questionnaire:
        """The questionnaire with its questions, or ``QuestionnaireNotFound``."""
        query = select(questionnaires).where(questionnaires.c.id == questionnaire_id)
        row = (await self._connection.execute(query.with_for_update() if for_update else query)).mappings().first()
        if row is None:
            raise QuestionnaireNotFound(questionnaire_id)
        return _questionnaire(dict(row), (await self._questions([questionnaire_id]))[questionnaire_id])

    async def add(self, questionnaire: Questionnaire) -> None:
        """Insert, with its questions."""
        values = {column.name: getattr(questionnaire, column.name) for column in questionnaires.c}
        await self._connection.execute(insert(questionnaires).values(values))
        for question in questionnaire.questions:
            await self.add_question(question)

    async def add_question(self, question: Question) -> None:
        """Append a question."""
        await self._connection.execute(insert(questions).values(_question_values(question)))

    async def answer(self, question: Question) -> None:
        """Store the answer of a question that has none yet."""
        open_question = (questions.c.id == question.id) & questions.c.answer.is_(None)
        values = {"answer": question.answer, "latency_ms": question.latency_ms}
        stored = await self._connection.execute(update(questions).where(open_question).values(values))
        if stored.rowcount == 0:
            query = select(questions.c.answer).where(questions.c.id == question.id)
            raise QuestionAlreadyAnswered(question.id, (await self._connection.execute(query)).scalar_one())

    async def finish(self, questionnaire: Questionnaire) -> None:
        """Store ``status`` and ``stop_reason``."""
        values = {"status": questionnaire.status, "stop_reason": questionnaire.stop_reason}
        own = questionnaires.c.id == questionnaire.id
        await self._connection.execute(update(questionnaires).where(own).values(values))

    async def of_user(self, user_id: str) -> list[Questionnaire]:
        """All of a user's questionnaires, oldest first."""
        query = (
            select(questionnaires)
            .where(questionnaires.c.user_id == user_id)
            .order_by(questionnaires.c.created_at, questionnaires.c.id)
        )
        rows = (await self._connection.execute(query)).mappings().all()
        asked = await self._questions([row["id"] for row in rows])
        return [_questionnaire(dict(row), asked[row["id"]]) for row in rows]

    async def questions_of_user(self, user_id: str) -> list[Question]:
        """The questions of all of a user's questionnaires, in their order, from one query."""
        query = (
            select(questions)
            .join(questionnaires, questions.c.questionnaire_id == questionnaires.c.id)
            .where(questionnaires.c.user_id == user_id)
            .order_by(questionnaires.c.created_at, questionnaires.c.id, questions.c.position)
        )
        return [_question(dict(row)) for row in (await self._connection.execute(query)).mappings()]

    async def _questions(self, questionnaire_ids: Sequence[str]) -> dict[str, tuple[Question, ...]]:
        """The questions of each questionnaire, in their order, from one query."""
        own = questions.c.questionnaire_id.in_(questionnaire_ids)
        rows = await self._connection.execute(select(questions).where(own).order_by(questions.c.position))
        asked: dict[str, tuple[Question, ...]] = dict.fromkeys(questionnaire_ids, ())
        for row in rows.mappings():
            asked[row["questionnaire_id"]] += (_question(dict(row)),)
        return asked


def _comparison_values(comparison: Comparison) -> dict[str, Any]:
    return {**asdict(comparison), "differences": list(comparison.differences)}


def _comparison(row: Mapping[str, Any]) -> Comparison:
    values = {key: value for key, value in row.items() if key != "sequence"}
    values["prompt"] = tuple(Message(**message) for message in row["prompt"])
    values["differences"] = tuple(row["differences"])
    return Comparison(**values)


def _adjustment_values(adjustment: Adjustment) -> dict[str, Any]:
    values = asdict(adjustment)
    return {**values, "axis": values.pop("index")}


def _adjustment(row: Mapping[str, Any]) -> Adjustment:
    values = {key: value for key, value in row.items() if key not in {"sequence", "axis"}}
    return Adjustment(**values, index=row["axis"])


def _questionnaire(row: Mapping[str, Any], asked: tuple[Question, ...]) -> Questionnaire:
    return Questionnaire(**{**row, "prompts": tuple(row["prompts"])}, questions=asked)


def _question_values(question: Question) -> dict[str, Any]:
    pair = asdict(question.pair)
    own = {column.name: getattr(question, column.name) for column in questions.c if hasattr(question, column.name)}
    return {**own, "pool_number": pair.pop("number"), **pair}


def _question(row: Mapping[str, Any]) -> Question:
    values = {**row, "differences": tuple(row["differences"])}
    pair = {key: values.pop(key) for key in ("topic", "prompt_id", "prompt", "first", "second")}
    number = values.pop("pool_number")
    return Question(**values, pair=CandidatePair(number=number, **pair))
