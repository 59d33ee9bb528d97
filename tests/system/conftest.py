"""Everything here needs root and programs that scripts/test_system.sh gets. What is missing is a failure, no skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.house import House


@pytest.fixture(autouse=True, scope="session")
def machine() -> None:
    needed = ("chromium", "promtool", "ip", "setpriv", "unshare", "mount", "systemd-analyze", "git", "make")
    missing = [name for name in needed if not shutil.which(name)]
    assert not missing, f"not on PATH: {', '.join(missing)}; run these tests with `make test-system`"
    assert os.geteuid() == 0, "these tests mount, and become other users: run `make test-system` as root"


@pytest.fixture
def empty_house() -> Iterator[House]:
    """Nothing runs in it yet."""
    house = House()
    yield house
    house.close()
