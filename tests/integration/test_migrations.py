"""The revisions against real databases: both ways, twice, at once, and equal to the tables in the code."""

import asyncio
import os
import sys
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from app.entities import User
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
