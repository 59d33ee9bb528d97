"""Opening, refusing to open, copying and putting back; and what a person is told when the disk does not play along."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from spinyard.core.spec import Kind
from spinyard.errors import Conflict, NotFound, StoreFailure
from spinyard.ports.store import Store
from spinyard.store import SqlStore, restore
from spinyard.store.dialect import open_database
from spinyard.store.migrate import upgrade
from spinyard.store.schema import metadata
from spinyard.testing.store_contract import NOW, add_service, claim_all, claim_one, must_commit


def open_store(path: Path | str, **more: Any) -> SqlStore:
    return SqlStore(str(path), new_id=lambda: "home-1", **more)


def test_the_store_is_the_port() -> None:
    store: Store = open_store(":memory:")
    assert store.installation == "home-1"
    store.close()


@pytest.mark.parametrize("home", ["file", "postgres"])
def test_the_installation_is_named_once(home: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    target = str(tmp_path / "s.db") if home == "file" else request.getfixturevalue("postgres")()
    first = SqlStore(target, new_id=lambda: "first")
    first.close()
    second = SqlStore(target, new_id=lambda: "second")
    assert second.installation == "first"
    second.close()


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    add_service(store)
    after = must_commit(store, claim_one(store, "web"), state="rolling", wake_at=NOW + 5, release=True)
    store.close()
    store = open_store(tmp_path / "s.db")
    [row] = claim_all(store, NOW + 5)
    assert (row.state, row.resource_version) == ("rolling", after.resource_version)
    store.close()


def test_files_are_private(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    add_service(store)
    store.backup(str(tmp_path / "copy.db"))
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    store.close()


def test_a_second_process_is_refused_while_the_first_has_the_store(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = open_store(path)
    program = (
        "from spinyard.store import SqlStore\n"
        "from spinyard.errors import StoreFailure\n"
        f"try: SqlStore({str(path)!r}, new_id=lambda: 'x')\n"
        "except StoreFailure as error: print(error.code, error.next_step)\n"
    )
    environment = {**os.environ, "PYTHONPATH": "src"}
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=30, check=True
    ).stdout
    assert said.startswith("store_locked ")
    with pytest.raises(StoreFailure) as caught:
        open_store(path)
    assert caught.value.code == "store_locked"
    store.close()
    open_store(path).close()


def test_a_stranger_that_holds_the_file_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spinyard.store.dialect._BUSY_MS", 50)
    path = tmp_path / "s.db"
    store = open_store(path)
    stranger = sqlite3.connect(path, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailure) as caught:
        add_service(store)
    assert (caught.value.code, caught.value.retryable) == ("store_locked", True)
    stranger.execute("ROLLBACK")
    stranger.close()
    add_service(store)
    store.close()


@pytest.mark.parametrize("damage", ["not a database", "torn"])
def test_a_damaged_file_is_called_damaged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "s.db"
    store = open_store(path)
    for index in range(50):
        add_service(store, f"s{index}")
    store.close()
    whole = path.read_bytes()
    torn = whole[:100] + os.urandom(len(whole) - 100)
    path.write_bytes(b"this is not a database, " * 1000 if damage == "not a database" else torn)
    with pytest.raises(StoreFailure) as caught:
        opened = open_store(path)
        claim_all(opened)
    assert caught.value.code == "store_corrupt"
    assert "backup" in caught.value.next_step


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    open_store(path).close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE meta SET value = '99' WHERE name = 'min_reader_version'")
    raw.commit()
    raw.close()
    with pytest.raises(StoreFailure) as caught:
        open_store(path)
    assert caught.value.code == "store_too_new"


def test_a_newer_schema_that_we_may_read_is_used_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    open_store(path).close()
    raw = sqlite3.connect(path)
    raw.execute("UPDATE alembic_version SET version_num = '0099'")
    raw.execute("ALTER TABLE objects ADD COLUMN colour TEXT")
    raw.commit()
    raw.close()
    store = open_store(path)
    add_service(store)
    must_commit(store, claim_one(store, "web"), state="rolling")
    store.close()


@pytest.mark.parametrize("path", ["/proc/spinyard/s.db", "/dev/null/s.db", "/nowhere/at/all/s.db"])
def test_a_home_that_cannot_be_written_is_said(path: str) -> None:
    with pytest.raises(StoreFailure) as caught:
        open_store(path)
    assert caught.value.code == "home_not_writable"
    assert path in caught.value.message


def test_a_full_disk_fails_the_commit_and_heals(tmp_path: Path) -> None:
    small = types.ModuleType("small")
    small.__dict__.update(sqlite3.__dict__)
    opened: list[sqlite3.Connection] = []

    def connect(*args: Any, **more: Any) -> sqlite3.Connection:
        opened.append(sqlite3.connect(*args, **more))
        return opened[-1]

    small.__dict__["connect"] = connect
    store = open_store(tmp_path / "s.db", module=small)
    pages = opened[0].execute("PRAGMA page_count").fetchone()[0]
    opened[0].execute(f"PRAGMA max_page_count = {pages + 20}")
    written = 0
    with pytest.raises(StoreFailure) as caught:
        for index in range(1000):
            add_service(store, f"s{index}", annotations={"big": "x" * 2000})
            written += 1
    assert caught.value.code == "disk_full"
    assert 0 < written < 100
    opened[0].execute("PRAGMA max_page_count = 1000000")
    assert len(store.read(lambda tx: tx.select(Kind.SERVICE), now=NOW)) == written
    add_service(store, "after")
    store.close()


def test_a_backup_of_a_working_store_is_whole(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    stop = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        index = 0
        try:
            while not stop.is_set():
                add_service(store, f"s{index}")
                index += 1
        except BaseException as error:  # noqa: BLE001 -- told by the test
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for index in range(5):
            store.backup(str(tmp_path / f"copy{index}.db"))
    finally:
        stop.set()
        writer.join()
    assert errors == []
    with pytest.raises(Conflict):
        store.backup(str(tmp_path / "copy0.db"))
    store.close()
    for index in range(5):
        copy = open_store(tmp_path / f"copy{index}.db")
        services = copy.read(lambda tx: tx.select(Kind.SERVICE, limit=10_000), now=NOW)
        assert len(services) == len(copy.events(limit=10_000)) == copy.commit_seq()
        copy.close()


def test_a_backup_is_put_back(tmp_path: Path) -> None:
    path, copy = tmp_path / "s.db", tmp_path / "copy.db"
    store = open_store(path)
    add_service(store)
    store.backup(str(copy))
    add_service(store, "later")
    with pytest.raises(StoreFailure) as locked:
        restore(str(copy), str(path))
    assert locked.value.code == "store_locked"
    store.close()
    with pytest.raises(Conflict):
        restore(str(copy), str(path))
    with pytest.raises(NotFound):
        restore(str(tmp_path / "nothing.db"), str(path))
    path.rename(tmp_path / "old.db")
    restore(str(copy), str(path))
    store = open_store(path)
    assert [row.name for row in claim_all(store)] == ["web"]
    assert store.installation == "home-1"
    store.close()


@pytest.mark.parametrize("content", [b"no database at all, " * 500, b""])
def test_a_broken_backup_is_not_put_back(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.db"
    bad.write_bytes(content)
    with pytest.raises(StoreFailure) as caught:
        restore(str(bad), str(tmp_path / "s.db"))
    assert caught.value.code == "store_corrupt"
    assert not (tmp_path / "s.db").exists()


def test_postgres_is_backed_up_with_its_own_tools(postgres: Any, tmp_path: Path) -> None:
    store = open_store(postgres())
    with pytest.raises(StoreFailure) as caught:
        store.backup(str(tmp_path / "copy"))
    assert "pg_dump" in caught.value.next_step
    store.close()


def test_a_closed_store_says_so() -> None:
    store = open_store(":memory:")
    store.close()
    with pytest.raises(StoreFailure) as caught:
        store.commit_seq()
    assert caught.value.code == "store_closed"


@pytest.mark.parametrize("home", ["file", "postgres"])
def test_the_migrations_make_the_tables_of_the_schema(
    home: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if home == "file":
        targets = [str(tmp_path / "migrated.db"), str(tmp_path / "made.db")]
    else:
        targets = [request.getfixturevalue("postgres")() for _ in range(2)]
    shapes = []
    for target, make in zip(targets, (upgrade, metadata.create_all), strict=True):
        database = open_database(target)
        with database.writer.begin() as connection:
            make(connection)
        with database.reader.connect() as connection:
            shapes.append(shape_of(connection))
        database.close()
    assert shapes[0] == shapes[1]
    assert {"objects", "resources", "events"} <= shapes[0].keys()


def where(index: Any) -> str:
    options = index.get("dialect_options", {})
    return str(options.get("postgresql_where", options.get("sqlite_where", "")))


def shape_of(connection: sa.Connection) -> dict[str, Any]:
    """Everything that a database tells of its tables, but for alembic's own."""
    inspector = sa.inspect(connection)
    shape: dict[str, Any] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        indexes = {
            index["name"]: (index["column_names"], index["unique"], where(index))
            for index in inspector.get_indexes(table)
        }
        columns = {
            column["name"]: (repr(column["type"]), column["nullable"], column["default"])
            for column in inspector.get_columns(table)
        }
        shape[table] = (columns, indexes, inspector.get_pk_constraint(table)["constrained_columns"])
    if connection.dialect.name == "sqlite":
        statement = "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '%alembic%' ORDER BY name"
        shape["sql"] = [
            (name, " ".join((sql or "").split())) for name, sql in connection.exec_driver_sql(statement).all()
        ]
    return shape


def test_an_upgrade_is_done_once_by_many_that_start_together(postgres: Any) -> None:
    url = postgres()
    names: list[str] = []
    errors: list[BaseException] = []

    def start(name: str) -> None:
        try:
            store = SqlStore(url, new_id=lambda: name)
            names.append(store.installation)
            store.close()
        except BaseException as error:  # noqa: BLE001 -- told by the test
            errors.append(error)

    threads = [threading.Thread(target=start, args=(f"n{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(names) == 4
    assert len(set(names)) == 1
