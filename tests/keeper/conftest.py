from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keeper.driver import Keeper


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="sy-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def keeper(home: Path) -> Iterator[Keeper]:
    keeper = Keeper(home)
    keeper.start()
    yield keeper
    keeper.close()
    assert list((home / "run" / "instances").iterdir()) == []
