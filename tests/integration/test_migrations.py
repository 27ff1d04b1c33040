"""The revisions against real databases: both ways, twice, at once, and equal to the tables in the code."""

import asyncio
import os
import sys
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.entities import CandidatePair, Comparison, Message, Question, Questionnaire, User
from app.storage.database import Database
from app.storage.migrations import current_revision, downgrade, newest_revision, upgrade
from app.storage.tables import metadata

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 2, 3, tzinfo=UTC)


async def test_up_down_and_up_again_ends_at_the_newest_revision(database: Database) -> None:
    seen = [await current_revision(database)]
    await downgrade(database, "base")
    seen.append(await current_revision(database))
    await upgrade(database)
    seen.append(await current_revision(database))
    assert seen == [newest_revision(), None, newest_revision()]


async def test_migrating_a_current_database_changes_nothing(database: Database) -> None:
    await upgrade(database)
    assert await current_revision(database) == newest_revision()


async def test_the_revisions_make_the_tables_that_the_code_describes(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


def asked(position: int, answer: str | None) -> Question:
    pair = CandidatePair(3 if position else None, "home", "tea", "Tea?", "Yes.", "No.")
    return Question(f"qst_{position}", "qnr_1", position, pair, False, 0.5, answer, None, "v1", (0.5,))  # type: ignore[arg-type]


async def write(database: Database) -> None:
    """One person with an answer, a generated question among them, and a batch of two more that wait."""
    questions = (asked(0, "first"), asked(1, None), asked(2, None))
    batch = Questionnaire("qnr_1", "ada", "v1", 9, None, None, "active", None, questions, NOW, 2, "auto", ("Tea?",))
    prompt = (Message("user", "Tea?"),)
    made = Comparison("cmp_1", "ada", prompt, "Yes.", "No.", "first", "v1", (0.5,), "questionnaire", NOW, "qst_0")
    async with database.begin() as uow:
        await uow.users.add(User("ada", None, True, {}, NOW, NOW))
        await uow.questionnaires.add(batch)
        await uow.preferences.add_comparisons([made])
        await uow.commit()


async def test_answers_survive_going_back_to_the_first_schema_and_forward_again(database: Database) -> None:
    await write(database)
    await downgrade(database, "0001")
    await upgrade(database)
    async with database.begin(read_only=True) as uow:
        kept = await uow.questionnaires.get("qnr_1")
        assert [comparison.id for comparison in await uow.preferences.comparisons("ada")] == ["cmp_1"]
    assert [question.answer for question in kept.questions] == ["first", None, "skip"]
    assert [question.pair.number for question in kept.questions] == [0, 3, 3]
    assert (kept.batch_size, kept.source, kept.prompts) == (1, "pool", ())


OLD_ROWS = (
    "INSERT INTO users VALUES ('ada', NULL, true, '{}', '2026-02-03', '2026-02-03')",
    "INSERT INTO questionnaires (id, user_id, basis_version, max_questions, status, created_at) "
    "VALUES ('qnr_1', 'ada', 'v1', 9, 'active', '2026-02-03')",
    "INSERT INTO questions (id, questionnaire_id, position, pair_number, topic, prompt_id, prompt, first, second, "
    "swapped, expected_information_bits, answer) VALUES "
    "('qst_0', 'qnr_1', 0, 7, 'home', 'tea', 'Tea?', 'Yes.', 'No.', true, 0.5, 'first'), "
    "('qst_1', 'qnr_1', 1, 8, 'home', 'tea', 'Tea?', 'Now.', 'Later.', false, 0.25, NULL)",
    "INSERT INTO comparisons (id, user_id, question_id, prompt, first, second, preferred, basis_version, differences, "
    "source, created_at) VALUES ('cmp_1', 'ada', 'qst_0', '[{\"role\": \"user\", \"content\": \"Tea?\"}]', 'No.', "
    "'Yes.', 'first', 'v1', '[0.5]', 'questionnaire', '2026-02-03')",
)
"""What the first release wrote: an answer, and a question that waits."""


async def test_rows_of_the_first_schema_mean_the_same_in_the_newest(database: Database) -> None:
    await downgrade(database, "0001")
    async with database.engine.begin() as connection:
        for statement in OLD_ROWS:
            await connection.exec_driver_sql(statement)
    await upgrade(database)
    async with database.begin(read_only=True) as uow:
        kept = await uow.questionnaires.get("qnr_1")
        [comparison] = await uow.preferences.comparisons("ada")
    assert (kept.batch_size, kept.source, kept.prompts, kept.status) == (1, "pool", (), "active")
    assert [(one.pair.number, one.swapped, one.answer) for one in kept.questions] == [
        (7, True, "first"),
        (8, False, None),
    ]
    assert {(one.basis_version, one.differences) for one in kept.questions} == {("", ())}
    assert (comparison.question_id, comparison.differences) == ("qst_0", (0.5,))


async def test_going_back_ends_a_questionnaire_that_waits_for_its_next_question(database: Database) -> None:
    waiting = Questionnaire(
        "qnr_1", "ada", "v1", 9, None, None, "active", None, (asked(0, "first"),), NOW, 1, "generated"
    )
    async with database.begin() as uow:
        await uow.users.add(User("ada", None, True, {}, NOW, NOW))
        await uow.questionnaires.add(waiting)
        await uow.commit()
    await downgrade(database, "0001")
    await upgrade(database)
    async with database.begin(read_only=True) as uow:
        ended = await uow.questionnaires.get("qnr_1")
    assert (ended.status, ended.stop_reason) == ("complete", "low_information")


@pytest.mark.postgres
async def test_two_processes_that_migrate_at_once_both_succeed(postgres_url: str) -> None:
    environment = {**os.environ, "ATTUNE_DATABASE_URL": postgres_url}
    command = [sys.executable, "-m", "app.cli", "migrate"]
    processes = [await asyncio.create_subprocess_exec(*command, env=environment) for _ in range(2)]
    assert [await process.wait() for process in processes] == [0, 0]
    database = Database(postgres_url)
    assert await current_revision(database) == newest_revision()
    await database.close()


async def test_looking_at_the_schema_waits_for_no_writer(database: Database) -> None:
    async with database.begin() as uow:
        await uow.users.add(User("ada", None, True, {}, NOW, NOW))
        async with asyncio.timeout(2):
            assert await current_revision(database) == newest_revision()
