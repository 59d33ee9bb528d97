"""Connections and transactions of a store: one writer, many readers, errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy import exc

from spinyard.errors import StoreFailure
from spinyard.store.dialect import Database, failure_of, is_poison

_LOCK = sa.text("SELECT commit_seq FROM sequence WHERE id = 1 FOR UPDATE")


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
        self._closed = False
        self._must_lock = bool(database.words.for_update)

    @contextmanager
    def write(self, *, queue: bool = True) -> Iterator[sa.Connection]:
        with self._writing, self.database.guard, self._translated():
            connection = self._open_writer()
            with connection.begin():
                if queue and self._must_lock:
                    connection.execute(_LOCK).all()
                yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self.database.guard if self.database.in_memory else _NOTHING, self._translated():
            connection = self._open_writer() if self.database.in_memory else self._open_reader()
            if connection.in_transaction():  # in memory: a read inside a write of the same thread
                yield connection
                return
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()

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

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Poison passes: the committer takes it apart. All else of the database becomes a StoreFailure."""
        try:
            yield
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            if is_poison(error):
                raise
            raise failure_of(error, self.database.path) from error


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING = _Nothing()
