"""Connections and transactions of a store: one writer, many readers, errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import NoReturn

import sqlalchemy as sa
from sqlalchemy import exc

from spinyard.errors import StoreFailure
from spinyard.store.dialect import Database, failure_of, is_poison
from spinyard.store.link import Link, Sql

_LOCK = Sql("SELECT commit_seq FROM sequence WHERE id = 1 FOR UPDATE")
_DATABASE_ERRORS = (exc.SQLAlchemyError, sqlite3.Error)


class Sessions:
    """`write` is one transaction of the writer, `read` one snapshot of a reader of this thread.

    On Postgres a write begins by locking the sequence row, so that the writers of all replicas pass one after the
    other: no deadlock among them, sums of reservations are exact, and commit_seq is visible in order. SQLite has that
    by itself. `queue=False` is for claims, which skip locked rows instead of waiting.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._local = threading.local()
        self._readers: list[sa.Connection] = []
        self._writing = threading.RLock()
        self._writer: sa.Connection | None = None
        self._inner: Link | None = None
        """the write that is under way"""
        self._peeking: Link | None = None
        """of reads in memory, all of them"""
        self._closed = False
        self._must_lock = bool(database.words.for_update)

    @contextmanager
    def write(self, *, queue: bool = True) -> Iterator[Link]:
        database = self.database
        with self._writing, database.guard:
            try:
                link = Link(self._open_writer(), database.words.begin_write)
                self._inner = link
                try:
                    if queue and self._must_lock:
                        link.execute(_LOCK)
                    yield link
                    link.commit()
                except BaseException:
                    link.rollback()
                    raise
                finally:
                    self._inner = None
            except _DATABASE_ERRORS as error:
                self.translate(error)

    def read(self) -> AbstractContextManager[Link]:
        return _MemoryRead(self) if self.database.in_memory else self._read_from_file()

    @contextmanager
    def _read_from_file(self) -> Iterator[Link]:
        try:
            link = Link(self._open_reader(), self.database.words.begin_read)
            try:
                yield link
            finally:
                link.rollback()
        except _DATABASE_ERRORS as error:
            self.translate(error)

    def link_in_memory(self) -> Link:
        """For a read, while the guard is held."""
        if self._inner is not None:
            return self._inner
        writer = self._open_writer()
        if self._peeking is None:
            self._peeking = Link(writer, "")
        return self._peeking

    def close(self) -> None:
        with self._writing:
            self._closed = True
            for connection in [*self._readers, *([self._writer] if self._writer is not None else [])]:
                connection.close()
            self._readers.clear()
            self._writer = None
        self.database.close()

    def _open_writer(self) -> sa.Connection:
        self._refuse_closed()
        if self._writer is None:
            self._writer = self.database.writer.connect()
        return self._writer

    def _open_reader(self) -> sa.Connection:
        self._refuse_closed()
        connection: sa.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self.database.reader.connect()
            self._local.connection = connection
            self._readers.append(connection)
        return connection

    def _refuse_closed(self) -> None:
        if self._closed:
            raise StoreFailure(f"the store {self.database.path} is closed", code="store_closed")

    def translate(self, error: Exception) -> NoReturn:
        """Poison passes: the committer takes it apart. All else of the database becomes a StoreFailure."""
        if is_poison(error):
            raise error
        raise failure_of(error, self.database.path) from error


class _MemoryRead:
    """Nobody else can write meanwhile, so it needs no transaction; or it is inside a write of the same thread. A class,
    for it is what a simulation does most."""

    __slots__ = ("_link", "_sessions")

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def __enter__(self) -> Link:
        guard = self._sessions.database.guard
        guard.acquire()
        try:
            self._link = self._sessions.link_in_memory()
        except BaseException:
            guard.release()
            raise
        return self._link

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self._link.end_read()
        finally:
            self._sessions.database.guard.release()
        if isinstance(error, _DATABASE_ERRORS):
            self._sessions.translate(error)
