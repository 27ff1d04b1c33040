"""Real databases: a SQLite file, and PostgreSQL in a schema of its own for each test."""

import os
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.storage.database import Database
from app.storage.migrations import upgrade

POSTGRES_URL = os.environ.get("ATTUNE_TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/test")


def _plain(url: str) -> str:
    return url.replace("+psycopg", "")


@pytest.fixture(scope="session")
def postgres() -> str:
    """Address of a server that answers; under CI=true it must, elsewhere its tests are skipped loudly."""
    try:
        psycopg.connect(_plain(POSTGRES_URL), connect_timeout=3).close()
    except psycopg.OperationalError as error:
        reason = f"no PostgreSQL at {POSTGRES_URL.split('@')[-1]} (ATTUNE_TEST_POSTGRES_URL): {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"SKIPPED: {reason}", stacklevel=1)
        pytest.skip(reason)
    return POSTGRES_URL


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """An empty schema of its own, dropped afterwards."""
    schema = f"attune_{uuid4().hex[:12]}"
    with psycopg.connect(_plain(postgres), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    separator = "&" if "?" in postgres else "?"
    yield f"{postgres}{separator}options=-csearch_path%3D{schema}"
    with psycopg.connect(_plain(postgres), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite+aiosqlite:///{tmp_path / 'attune.db'}"


@pytest.fixture
async def database(database_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    """A migrated database of each kind."""
    database = Database(database_url)
    await upgrade(database)
    yield database
    await database.close()


@pytest.fixture
async def postgres_database(postgres_url: str, anyio_backend: str) -> AsyncIterator[Database]:
    """A migrated PostgreSQL database."""
    database = Database(postgres_url)
    await upgrade(database)
    yield database
    await database.close()
