"""The database engine and the unit of work over it. Knows no table."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.errors import ConfigurationError, StorageUnavailable
from app.ports import PreferenceRepository, QuestionnaireRepository, UserRepository
from app.storage.repositories import SqlPreferences, SqlQuestionnaires, SqlUsers

BUSY_TIMEOUT_SECONDS = 5
POOL_TIMEOUT_SECONDS = 30
"""Longer than a burst of hundreds of requests takes to pass through a few connections on a busy machine."""


class SqlUnitOfWork:
    """One transaction on one connection, with the repositories that write into it."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.users: UserRepository = SqlUsers(connection)
        self.preferences: PreferenceRepository = SqlPreferences(connection)
        self.questionnaires: QuestionnaireRepository = SqlQuestionnaires(connection)

    async def commit(self) -> None:
        """Make everything written so far durable."""
        await self._connection.commit()


class Database:
    """A pool of connections to SQLite or PostgreSQL that hands out units of work."""

    def __init__(self, url: str) -> None:
        """Prepare the pool; raises ``ConfigurationError`` where the address or its directory cannot be used."""
        self.url = url
        self.engine = _create_engine(url)

    @asynccontextmanager
    async def begin(self, *, read_only: bool = False) -> AsyncIterator[SqlUnitOfWork]:
        """Start a transaction; leaving the block without ``commit`` rolls it back."""
        try:
            async with self.connect(read_only=read_only) as connection:
                yield SqlUnitOfWork(connection)
        except SQLAlchemyError as error:
            raise StorageUnavailable(_explain(error)) from error

    async def ping(self) -> None:
        """Raise ``StorageUnavailable`` unless the database answers."""
        try:
            async with self.connect(read_only=True) as connection:
                await connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            raise StorageUnavailable(_explain(error)) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()

    @asynccontextmanager
    async def connect(self, *, read_only: bool) -> AsyncIterator[AsyncConnection]:
        """A connection for one transaction; a read-only one takes no lock that a writer would wait for."""
        async with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                await connection.execution_options(attune_begin="BEGIN" if read_only else "BEGIN IMMEDIATE")
            elif read_only:
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection


def _create_engine(url: str) -> AsyncEngine:
    """The engine for a database address, with SQLite made durable across kill -9 and power loss."""
    address = _parse(url)
    if address.get_backend_name() != "sqlite":
        return create_async_engine(
            address, pool_pre_ping=True, pool_timeout=POOL_TIMEOUT_SECONDS, connect_args={"connect_timeout": 5}
        )
    if address.database:
        _make_directory(Path(address.database).parent)
    engine = create_async_engine(address, pool_timeout=POOL_TIMEOUT_SECONDS)
    event.listen(engine.sync_engine, "connect", _configure_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _parse(url: str) -> URL:
    """The address in parts; a broken one is not repeated in the message, for it may hold a password."""
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "ATTUNE_DATABASE_URL cannot be read as an address; it must look like postgresql://user@host:5432/name or "
            "sqlite:///path."
        ) from None


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"The directory {directory} for the database cannot be made ({error.strerror}); make it writable, or set "
            f"ATTUNE_DATABASE_URL to another place."
        ) from error


def _configure_sqlite(connection: Any, _record: object) -> None:
    """Leave transactions to us, and every commit on disk before it is acknowledged."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Start the transaction; a writing one takes the write lock at once, so that it never has to upgrade."""
    connection.exec_driver_sql(connection.get_execution_options().get("attune_begin", "BEGIN IMMEDIATE"))


def _explain(error: SQLAlchemyError) -> str:
    """What went wrong, without the statement and its parameters: those hold what people wrote."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return f"The database did not carry out the request ({type(cause).__name__}); try again in a moment."
