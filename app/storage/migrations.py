"""Brings a database to this release's schema and tells which schema it has. Knows no use case."""

import asyncio
from collections.abc import Callable
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

import app
from app.errors import StorageUnavailable
from app.storage.database import Database

MIGRATION_SECONDS = 600


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration; the revisions lie inside an installed package, or beside it in a checkout."""
    package = Path(app.__file__).parent
    installed, checkout = package / "migrations", package.parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(installed if installed.is_dir() else checkout).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@cache
def newest_revision() -> str | None:
    """The revision this release was written for; read from disk once."""
    return ScriptDirectory.from_config(configuration()).get_current_head()


async def current_revision(database: Database) -> str | None:
    """The revision the database is at, read without waiting for writers; None where it has none yet."""
    try:
        async with database.connect(read_only=True) as connection:
            return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())
    except SQLAlchemyError as error:
        raise StorageUnavailable(f"The database does not answer ({type(error).__name__}).") from error


async def upgrade(database: Database, revision: str = "head") -> None:
    """Run every revision that is missing, in one transaction; two processes at once do it one after the other."""
    await _run(database, lambda connection: command.upgrade(configuration(connection), revision))


async def downgrade(database: Database, revision: str) -> None:
    """Undo revisions down to ``revision`` (``base`` for all of them)."""
    await _run(database, lambda connection: command.downgrade(configuration(connection), revision))


async def _run(database: Database, change: Callable[[Connection], None]) -> None:
    try:
        async with asyncio.timeout(MIGRATION_SECONDS), database.engine.connect() as connection:
            await connection.run_sync(change)
            await connection.commit()
    except SQLAlchemyError as error:
        raise StorageUnavailable(f"The database could not be migrated: {error}") from error
