"""Connections and transactions of a store: one writer, many readers, errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
                self._translate(error)

    @contextmanager
    def read(self) -> Iterator[Link]:
        try:
            if self.database.in_memory:
                with self.database.guard:
                    yield from self._read_in_memory()
                return
            link = Link(self._open_reader(), self.database.words.begin_read)
            try:
                yield link
            finally:
                link.rollback()
        except _DATABASE_ERRORS as error:
            self._translate(error)

    def _read_in_memory(self) -> Iterator[Link]:
        """Nobody else can write meanwhile, so it needs no transaction; or it is inside a write of the same thread."""
        if self._inner is not None:
            yield self._inner
            return
        link = Link(self._open_writer(), "")
        try:
            yield link
        finally:
            link.rollback()

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

    def _translate(self, error: Exception) -> NoReturn:
        """Poison passes: the committer takes it apart. All else of the database becomes a StoreFailure."""
        if is_poison(error):
            raise error
        raise failure_of(error, self.database.path) from error
