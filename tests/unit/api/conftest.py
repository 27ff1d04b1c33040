from collections.abc import AsyncIterator
from itertools import count

import httpx2
import pytest
import structlog
from fastapi import FastAPI

from app.config import Settings
from app.main import create_app
from tests.fakes.served import serving

_numbers = count()


@pytest.fixture(autouse=True, scope="session")
def plain_log() -> None:
    """One line an event, as served; without configuration structlog renders errors with all their variables."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(engine={"backend": "scripted"}))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
async def http(
    anyio_backend: str, app: FastAPI, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx2.AsyncClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("service"))
        async with serving(app) as client:
            yield client


@pytest.fixture
async def user(http: httpx2.AsyncClient) -> str:
    """A new user's id."""
    user_id = f"user-{next(_numbers)}"
    await http.put(f"/v1/users/{user_id}", json={})
    return user_id
