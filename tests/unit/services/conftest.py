import pytest

from tests.fakes.world import World


@pytest.fixture
async def world(anyio_backend: str) -> World:
    return await World.create()
