"""Statements known beforehand go to the driver itself: SQLAlchemy's own way costs more than the database.

A Link is one transaction of one of SQLAlchemy's connections. Constant texts (Sql, RowSql) go to the driver's cursor;
all else (statements put together per call, DDL, savepoints) goes the ordinary way, in the same transaction. Errors are
SQLAlchemy's either way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, overload

import msgspec
import sqlalchemy as sa

from spinyard.store.dialect import IN_LINK, Columns, Words

_encoder = msgspec.json.Encoder()

Record = tuple[Any, ...]
_NAME = re.compile(r"(?<![:\w]):([a-z_]+)")
_PLACE = re.compile(r"(?<![:\w])(?:b\.|:)[a-z_]+")
_ROWS = "FROM {rows} AS b"


class Sql:
    """A constant text with :names. Each driver's own form of it is made at its first use."""

    __slots__ = ("_ready", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._ready: dict[str, tuple[str, Callable[[Mapping[str, Any]], Any]]] = {}

    def __str__(self) -> str:
        return self.text

    def prepared(self, style: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
        """The text for the driver, and what makes its parameters."""
        ready = self._ready.get(style)
        if ready is None:
            ready = self._ready[style] = _positional(self.text) if style == "qmark" else _named(self.text)
        return ready


class RowSql(Sql):
    """A statement over rows of one JSON parameter called rows: `FROM {rows} AS b` in the template. SQLite, where a call
    costs nothing, executes it row by row instead, each `b.name` bound: half the price of taking JSON apart."""

    __slots__ = ("_columns", "_single", "_template")

    def __init__(self, words: Words, template: str, columns: Columns) -> None:
        assert _ROWS in template
        super().__init__(template.replace("{rows}", words.rows("rows", columns)))
        self._template = template
        self._columns = columns
        self._single: tuple[str, Callable[[Record], Record]] | None = None

    def one_by_one(self, shared: Iterable[str]) -> tuple[str, Callable[[Record], Record]]:
        """The text for a single row, and what puts the row's columns, followed by what all rows share, in its order."""
        if self._single is None:
            # What it returns is known by the count of each row.
            text = self._template.replace(_ROWS, "").split(" RETURNING ")[0]
            names = [*(f"b.{name}" for name, _ in self._columns), *(f":{name}" for name in shared)]
            places = [names.index(found) for found in _PLACE.findall(text)]
            self._single = _PLACE.sub("?", text), itemgetter(*places)
        return self._single


class Rows:
    """What a statement returned, as a whole."""

    __slots__ = ("_records", "rowcount")

    def __init__(self, records: list[Record], rowcount: int) -> None:
        self._records = records
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def all(self) -> list[Record]:
        return self._records

    def first(self) -> Record | None:
        return self._records[0] if self._records else None

    def one(self) -> Record:
        [record] = self._records
        return record

    def one_or_none(self) -> Record | None:
        return self.one() if self._records else None

    def scalars(self) -> list[Any]:
        return [record[0] for record in self._records]

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalar_one_or_none(self) -> Any:
        return self.one()[0] if self._records else None


class Link:
    def __init__(self, connection: sa.Connection, begin: str) -> None:
        """`begin`: what begins a transaction, where the driver does not do it by itself."""
        self._connection = connection
        self._style = connection.dialect.paramstyle
        self._each = self._style == "qmark"
        self._errors = connection.dialect.loaded_dbapi.Error
        raw: Any = connection.connection.driver_connection
        self._raw = raw
        self._cursor: Any = None
        self._cursor = self._run(raw.cursor)
        self._begun = bool(begin)
        if begin:
            self._run(self._cursor.execute, begin)
            connection.info[IN_LINK] = True

    @property
    def core(self) -> sa.Connection:
        """For all that is not constant; in this transaction."""
        if not self._connection.in_transaction():
            self._connection.begin()
        return self._connection

    @overload
    def execute(
        self, statement: Sql, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Rows: ...

    @overload
    def execute(self, statement: sa.Executable, parameters: Any = None) -> Any: ...

    def execute(self, statement: Sql | sa.Executable, parameters: Any = None) -> Any:
        if not isinstance(statement, Sql):
            return self.core.execute(statement, parameters)
        text, values = statement.prepared(self._style)
        cursor = self._cursor
        if isinstance(parameters, list):
            self._run(cursor.executemany, text, [values(one) for one in parameters])
            return Rows([], cursor.rowcount)
        try:
            cursor.execute(text, values(parameters or {}))
            return Rows(cursor.fetchall() if cursor.description is not None else [], cursor.rowcount)
        except self._errors as error:
            raise self._translated(error, (text,)) from error

    def execute_rows(self, statement: Sql, rows: Sequence[Record], shared: Mapping[str, Any]) -> None:
        """All rows, in the order given."""
        if self._each and isinstance(statement, RowSql):
            text, in_order = statement.one_by_one(shared)
            last = tuple(shared.values())
            self._run(self._cursor.executemany, text, [in_order((*row, *last)) for row in rows])
        else:
            self.execute(statement, {"rows": _encoder.encode(rows).decode(), **shared})

    def written(self, statement: Sql, rows: Sequence[Record], shared: Mapping[str, Any]) -> set[Any]:
        """As `execute_rows`; the first columns of those rows that the statement really wrote, which it returns."""
        if not (self._each and isinstance(statement, RowSql)):
            return {
                name for (name,) in self.execute(statement, {"rows": _encoder.encode(rows).decode(), **shared}).all()
            }
        text, in_order = statement.one_by_one(shared)
        last = tuple(shared.values())
        cursor, execute, out = self._cursor, self._cursor.execute, set()
        try:
            for row in rows:
                execute(text, in_order((*row, *last)))
                if cursor.rowcount:
                    out.add(row[0])
        except self._errors as error:
            raise self._translated(error, (text,)) from error
        return out

    def exec_driver_sql(self, statement: str) -> sa.CursorResult[Any]:
        return self.core.exec_driver_sql(statement)

    def begin_nested(self) -> sa.NestedTransaction:
        return self.core.begin_nested()

    def commit(self) -> None:
        if self._connection.in_transaction():
            self._connection.commit()
        else:
            self._run(self._raw.commit)
        self._end()

    def rollback(self) -> None:
        try:
            # Also one that a failed commit (a full disk) left inactive: it would stand in the way of the next.
            if self._connection.get_transaction() is not None:
                self._connection.rollback()
            if not self._connection.invalidated:
                self._run(self._raw.rollback)
        finally:
            self._end()

    def end_read(self) -> None:
        """Of one that began no transaction, and stays in use: only what went the ordinary way may have begun one."""
        if not self._begun and self._connection.in_transaction():
            self._connection.rollback()

    def _end(self) -> None:
        if self._begun and not self._connection.invalidated:
            self._connection.info.pop(IN_LINK, None)

    def _run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._errors as error:
            raise self._translated(error, arguments) from error

    def _translated(self, error: Any, arguments: tuple[Any, ...]) -> BaseException:
        dialect, connection = self._connection.dialect, self._connection
        lost = dialect.is_disconnect(error, self._raw, self._cursor)
        if lost and not connection.invalidated:
            connection.invalidate(error)
        text = arguments[0] if arguments else ""
        wrapped: BaseException = sa.exc.DBAPIError.instance(
            text, None, error, self._errors, connection_invalidated=lost, dialect=dialect
        )
        return wrapped


def insert_into(table: str, columns: str) -> str:
    values = ", ".join(f":{name}" for name in columns.split(", "))
    return f"INSERT INTO {table} ({columns}) VALUES ({values})"  # noqa: S608 -- our own names


def _positional(text: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    names = _NAME.findall(text)
    if not names:
        return text, lambda parameters: ()
    pick: Callable[[Mapping[str, Any]], Any] = itemgetter(*names)
    return _NAME.sub("?", text), pick if len(names) > 1 else lambda parameters: (pick(parameters),)


def _named(text: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    return _NAME.sub(r"%(\1)s", text.replace("%", "%%")), lambda parameters: parameters
