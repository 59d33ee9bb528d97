# ruff: noqa: S608 -- statements are made of our own names, once; values are always parameters
"""The only file that knows SQLite from Postgres: how to connect, the few words of SQL that differ, what errors mean.

SQLite: one writer connection for the life of the store (a lock file refuses a second process), a reader connection per
thread, WAL with synchronous=FULL. In memory: one connection for both. Postgres: one writer connection, pooled readers.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool, StaticPool

from spinyard.errors import Conflict, StoreFailure

Columns = Sequence[tuple[str, str]]
"""(name, type) with type one of text, int, float, flag"""

_SQLITE_MINIMUM = (3, 35, 0)
_BUSY_MS = 5000
IN_LINK = "spinyard_in_link"
"""in the info of a connection whose transaction a Link has begun (see link)"""


@dataclass(frozen=True, slots=True)
class Words:
    """What differs in a statement."""

    name: str
    least: str
    greatest: str
    for_update: str
    skip_locked: str
    begin_write: str
    begin_read: str
    """empty: the driver begins by itself"""

    def rows(self, parameter: str, columns: Columns) -> str:
        """A table of the rows of a JSON array of arrays: one parameter, whatever the size of the batch."""
        if self.name == "sqlite":
            picked = ", ".join(f"json_extract(value, '$[{i}]') AS {name}" for i, (name, _) in enumerate(columns))
            return f"(SELECT {picked} FROM json_each(:{parameter}))"
        kinds = {"text": "text", "int": "bigint", "float": "double precision", "flag": "boolean) AS integer"}
        picked = ", ".join(
            f"{'CAST(' if t == 'flag' else ''}CAST(value->>{i} AS {kinds[t]}) AS {name}"
            for i, (name, t) in enumerate(columns)
        )
        return f"(SELECT {picked} FROM jsonb_array_elements(CAST(:{parameter} AS jsonb)))"

    def values(self, parameter: str) -> str:
        """The texts of a JSON array, to be used after IN."""
        if self.name == "sqlite":
            return f"(SELECT value FROM json_each(:{parameter}))"
        return f"(SELECT jsonb_array_elements_text(CAST(:{parameter} AS jsonb)))"

    def by_index(self, name: str) -> str:
        """SQLite keeps no statistics of ours and may take an index that holds every live row; Postgres knows better."""
        return f"INDEXED BY {name}" if self.name == "sqlite" else ""

    def contains(self, text: str, part: str) -> str:
        return f"instr({text}, {part}) > 0" if self.name == "sqlite" else f"strpos({text}, {part}) > 0"


SQLITE = Words(
    name="sqlite",
    least="min",
    greatest="max",
    for_update="",
    skip_locked="",
    begin_write="BEGIN IMMEDIATE",
    begin_read="BEGIN",
)
POSTGRES = Words(
    name="postgresql",
    least="least",
    greatest="greatest",
    for_update="FOR UPDATE",
    skip_locked="FOR UPDATE SKIP LOCKED",
    begin_write="",
    begin_read="",
)


@dataclass(slots=True)
class Database:
    """An open database. `guard` serialises what shares the one connection of a store in memory."""

    words: Words
    path: str
    """the file, `:memory:`, or a URL without its password"""
    writer: sa.Engine
    reader: sa.Engine
    lock_file: int | None = None
    guard: threading.RLock = field(default_factory=threading.RLock)

    @property
    def in_memory(self) -> bool:
        return self.path == ":memory:"

    @property
    def is_file(self) -> bool:
        return self.words.name == "sqlite" and not self.in_memory

    def lock_migrations(self, connection: sa.Connection) -> None:
        """Until the end of the transaction. On SQLite the writer's transaction is that lock."""
        if self.words.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7391035218)")

    def copy_to(self, target: str) -> None:
        """A consistent copy, while others read and write."""
        if self.words.name == "postgresql":
            raise StoreFailure(
                "a store on Postgres is not copied by spinyard",
                code="backup_unsupported",
                next_step="use pg_dump (and pg_restore) on the database of the store",
            )
        if os.path.lexists(target):
            raise Conflict(f"{target} exists already", code="already_exists", next_step="give the backup another name")
        try:
            with self.guard, self.reader.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.execute("VACUUM INTO ?", (target,))
        except (sqlite3.Error, exc.SQLAlchemyError) as error:
            raise failure_of(error, target) from error
        os.chmod(target, 0o600)
        sync_file(target)

    def close(self) -> None:
        self.reader.dispose()
        self.writer.dispose()
        if self.lock_file is not None:
            os.close(self.lock_file)
            self.lock_file = None


def open_database(target: str, *, module: ModuleType | None = None) -> Database:
    """`target`: a path, `:memory:`, `sqlite:///path`, or `postgresql://...`. `module` replaces sqlite3 (tests)."""
    if target.startswith(("postgresql:", "postgres:", "postgresql+psycopg:")):
        return _open_postgres(target)
    path = target.removeprefix("sqlite:///") if target.startswith("sqlite:///") else target
    return _open_sqlite(path, module)


# -- SQLite ------------------------------------------------------------------------------------------------------------


def _open_sqlite(path: str, module: ModuleType | None) -> Database:
    driver: Any = module or sqlite3
    if sqlite3.sqlite_version_info < _SQLITE_MINIMUM:
        raise StoreFailure(
            f"the SQLite of this Python is {sqlite3.sqlite_version}",
            code="sqlite_too_old",
            next_step="use a Python whose sqlite3 is 3.35 or newer",
        )
    if path == ":memory:":
        shared = sa.create_engine("sqlite://", creator=lambda: _connect(driver, path), poolclass=StaticPool)
        _begin_with(shared, SQLITE.begin_write)
        return Database(words=SQLITE, path=path, writer=shared, reader=shared)
    lock_file = take_lock(path)
    options: dict[str, Any] = {} if module is None else {"module": module}
    try:
        _make_private(path)
        writer = sa.create_engine("sqlite://", creator=lambda: _connect(driver, path), poolclass=StaticPool, **options)
        reader = sa.create_engine(
            "sqlite://", creator=lambda: _connect(driver, path, 4096), poolclass=NullPool, **options
        )
        _begin_with(writer, SQLITE.begin_write)
        _begin_with(reader, SQLITE.begin_read)
        with writer.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
    except (sqlite3.Error, exc.SQLAlchemyError, OSError) as error:
        os.close(lock_file)
        raise failure_of(error, path) from error
    return Database(words=SQLITE, path=path, writer=writer, reader=reader, lock_file=lock_file)


def _connect(driver: Any, path: str, cache_kib: int = 32_768) -> Any:
    connection = driver.connect(
        path, timeout=_BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        for pragma in (
            f"busy_timeout = {_BUSY_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = OFF",
            "temp_store = MEMORY",
            f"cache_size = -{cache_kib}",
            "journal_size_limit = 67108864",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _begin_with(engine: sa.Engine, statement: str) -> None:
    """The driver begins nothing by itself (isolation_level None); a writer takes its lock at once, never half way."""

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if IN_LINK not in connection.info:
            connection.exec_driver_sql(statement)


def take_lock(path: str) -> int:
    try:
        lock_file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise failure_of(error, path) from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_file)
        raise StoreFailure(
            f"the store {path} is in use by another process",
            code="store_locked",
            next_step="stop the other server on this home (spinyard down), or use another home",
            retryable=True,
            details={"path": path},
        ) from error
    return lock_file


def _make_private(path: str) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def sync_file(path: str) -> None:
    for name in (path, str(Path(path).absolute().parent)):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# -- Postgres ----------------------------------------------------------------------------------------------------------


def _open_postgres(target: str) -> Database:
    url = sa.make_url(target).set(drivername="postgresql+psycopg")
    shown = url.render_as_string(hide_password=True)
    try:
        writer = sa.create_engine(url, pool_size=1, max_overflow=2, pool_pre_ping=True)
        reader = sa.create_engine(url, pool_size=4, max_overflow=12, isolation_level="REPEATABLE READ")
        with writer.connect() as connection:
            connection.exec_driver_sql("SELECT 1").all()
    except (exc.SQLAlchemyError, ImportError) as error:
        raise failure_of(error, shown) from error
    return Database(words=POSTGRES, path=shown, writer=writer, reader=reader)


# -- errors ------------------------------------------------------------------------------------------------------------

_FAILURES: tuple[tuple[tuple[str, ...], str, str, str, bool], ...] = (
    (
        ("database is locked", "database table is locked", "lock timeout"),
        "store_locked",
        "is locked by another process",
        "find what else has the file open (a backup tool, a second server) and stop it; then try again",
        True,
    ),
    (
        ("not a database", "malformed", "file is encrypted", "database corruption"),
        "store_corrupt",
        "is damaged",
        "restore a backup (spinyard restore); keep the damaged file for diagnosis",
        False,
    ),
    (
        ("disk is full", "no space left", "disk full", "quota exceeded"),
        "disk_full",
        "cannot be written: the disk is full",
        "free some space on the disk of the home; nothing acknowledged is lost, and work goes on by itself",
        True,
    ),
    (
        ("unable to open", "readonly database", "permission denied", "read-only", "no such file", "not a directory",
         "is a directory", "authorization denied"),
        "home_not_writable",
        "cannot be opened for writing",
        "check that the home exists and belongs to the user who runs spinyard",
        False,
    ),
)  # fmt: skip


def failure_of(error: BaseException, what: str) -> StoreFailure:
    """What an error of the database means to a person."""
    cause = getattr(error, "orig", None) or error
    words = str(cause)
    lowered = words.lower()
    for signs, code, sentence, next_step, retryable in _FAILURES:
        if any(sign in lowered for sign in signs):
            return StoreFailure(
                f"the store {what} {sentence} ({words.strip()})",
                code=code,
                next_step=next_step,
                retryable=retryable,
                details={"path": what},
            )
    return StoreFailure(
        f"the store {what} failed: {words.strip() or type(cause).__name__}",
        next_step="look at the server's log; if the database is remote, check that it answers",
        retryable=True,
        details={"path": what},
    )


def is_poison(error: Exception) -> bool:
    """True when the data is at fault (a constraint, an encoding), so that only the row that carries it must suffer."""
    if isinstance(error, exc.DBAPIError):
        return isinstance(error, exc.IntegrityError | exc.DataError) or "malformed json" in str(error.orig).lower()
    return isinstance(error, exc.StatementError | ValueError | TypeError | OverflowError)
