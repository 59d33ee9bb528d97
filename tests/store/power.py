"""A disk that remembers every write and sync, so that the power can be cut at any of them.

`RecordingVFS` passes everything on to the real files and keeps a log. `files_after_cut` gives what a disk may hold when
the power goes at some place of that log: all that was synced before, and of the rest any part, in any order, torn at
sectors. `as_module` wraps apsw as the DB-API that SQLAlchemy and the store expect, on top of such a VFS.
"""

from __future__ import annotations

import sqlite3
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Write:
    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    path: str


@dataclass(frozen=True, slots=True)
class Delete:
    path: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The store returned from a write: from here on it may not be lost."""

    what: Any


Step = Write | Truncate | Sync | Delete | Acknowledged


class RecordingVFS(apsw.VFS):
    def __init__(self, name: str, log: list[Step]) -> None:
        super().__init__(name, "unix")
        self.log = log

    def xOpen(self, name: Any, flags: list[int]) -> RecordingFile:
        return RecordingFile(name, flags, self.log)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.log.append(Delete(filename))


class RecordingFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], log: list[Step]) -> None:
        super().__init__("unix", name, flags)
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else (name or "")
        self.log = log

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self.log.append(Write(self.path, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self.log.append(Truncate(self.path, newsize))

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self.log.append(Sync(self.path))


def files_after_cut(log: Sequence[Step], at: int, random: Random) -> dict[str, bytes]:
    """By name of the file, without its folder."""
    durable: dict[str, bytearray] = {}
    pending: dict[str, list[Write | Truncate]] = {}
    for step in log[:at]:
        match step:
            case Write() | Truncate():
                durable.setdefault(step.path, bytearray())
                pending.setdefault(step.path, []).append(step)
            case Sync():
                for waiting in pending.pop(step.path, []):
                    apply(durable[step.path], waiting)
            case Delete():
                durable.pop(step.path, None)
                pending.pop(step.path, None)
            case Acknowledged():
                pass
    for path, waiting_steps in pending.items():
        survivors = [step for step in waiting_steps if random.random() < 0.6]
        random.shuffle(survivors)
        for step in survivors:
            for piece in torn(step, random):
                apply(durable[path], piece)
    return {Path(path).name: bytes(content) for path, content in durable.items()}


def torn(step: Write | Truncate, random: Random) -> Iterator[Write | Truncate]:
    if isinstance(step, Truncate) or random.random() < 0.6:
        yield step
        return
    for start in range(0, len(step.data), SECTOR):
        if random.random() < 0.7:
            yield Write(step.path, step.offset + start, step.data[start : start + SECTOR])


def apply(content: bytearray, step: Write | Truncate) -> None:
    if isinstance(step, Truncate):
        del content[step.size :]
        return
    end = step.offset + len(step.data)
    if len(content) < end:
        content.extend(b"\x00" * (end - len(content)))
    content[step.offset : end] = step.data


# -- apsw as a DB-API --------------------------------------------------------------------------------------------------


def as_module(vfs: str, *, synchronous: str = "FULL") -> types.ModuleType:
    """What the store calls instead of sqlite3. `synchronous` weaker than FULL overrules the store's own wish."""
    module = types.ModuleType("apsw_dbapi")
    module.__dict__.update({name: value for name, value in sqlite3.__dict__.items() if not name.startswith("_")})
    module.__dict__["sqlite_version_info"] = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    module.__dict__["connect"] = lambda path, **_: Connection(path, vfs, synchronous)
    return module


class Connection:
    isolation_level = None

    def __init__(self, path: str, vfs: str, synchronous: str) -> None:
        with translated():
            self._apsw = apsw.Connection(path, vfs=vfs)
        self._synchronous = synchronous

    def cursor(self, *_: object) -> Cursor:
        return Cursor(self._apsw, self._synchronous)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        return self.cursor().execute(statement, parameters)

    def create_function(self, name: str, arguments: int, function: Any, *, deterministic: bool = False) -> None:
        self._apsw.create_scalar_function(name, function, arguments, deterministic=deterministic)

    def commit(self) -> None:
        if self._apsw.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self._apsw.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        self._apsw.close()


@dataclass
class Cursor:
    connection: apsw.Connection
    synchronous: str
    description: Any = None
    rowcount: int = -1
    lastrowid: int | None = None
    arraysize: int = 1
    _rows: list[Any] = field(default_factory=list)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        if statement == "PRAGMA synchronous = FULL":
            statement = f"PRAGMA synchronous = {self.synchronous}"
        cursor = self.connection.cursor()
        self.description = None
        cursor.exec_trace = self._note_description
        with translated():
            before = self.connection.total_changes()
            self._rows = list(cursor.execute(statement, tuple(parameters)))
            self.rowcount = self.connection.total_changes() - before
        return self

    def executemany(self, statement: str, many: Sequence[Sequence[Any]]) -> Cursor:
        count = 0
        for parameters in many:
            count += self.execute(statement, parameters).rowcount
        self.rowcount = count
        return self

    def _note_description(self, cursor: apsw.Cursor, statement: str, bindings: object) -> bool:
        described = cursor.get_description()
        self.description = [(name, None, None, None, None, None, None) for name, *_ in described] or None
        return True

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    def fetchmany(self, size: int | None = None) -> list[Any]:
        count = size or self.arraysize
        rows, self._rows = self._rows[:count], self._rows[count:]
        return rows

    def close(self) -> None:
        self._rows = []


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except apsw.ConstraintError as error:
        raise sqlite3.IntegrityError(str(error)) from error
    except apsw.Error as error:
        raise sqlite3.OperationalError(str(error)) from error
