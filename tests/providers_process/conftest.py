"""A home of its own with a real keeper for each test; nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spinyard.clock import SystemClock
from spinyard.providers.process.client import KeeperUnreachable
from spinyard.providers.process.provider import ProcessProvider

INSTALLATION = "provider-tests"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sy-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def provider(home: Path) -> AsyncIterator[ProcessProvider]:
    provider = ProcessProvider(home, installation=INSTALLATION, scope="host:test", clock=SystemClock(), epoch=1)
    pid = (await provider.keeper.hello())["pid"]
    yield provider
    for state in (await provider.keeper.instances())[0]:
        await provider.keeper.call("remove", key=state["key"], now=True, epoch=1 << 40)
    with contextlib.suppress(KeeperUnreachable):
        await asyncio.wait_for(provider.keeper.stop(instances=True), 20)
    await provider.close()
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return b"spinyard.keeper" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.path.exists(f"/proc/{pid}")
    return False
