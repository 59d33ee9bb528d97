from collections.abc import AsyncIterator

import pytest

from tests.proxy.world import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """The provider serves and a real Envoy has its first configuration."""
    world = World()
    try:
        await world.start()
        yield world
    finally:
        await world.stop()


@pytest.fixture
async def bare_world() -> AsyncIterator[World]:
    """Nothing runs yet."""
    world = World()
    try:
        yield world
    finally:
        await world.stop()
