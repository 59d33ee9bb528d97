"""From no tables, or older ones, to those of this version. Within one version migrations only add.

A home of a newer version is read as long as its `min_reader_version` allows, and then never migrated down. Alembic is
imported only when there is something to migrate: it costs a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from spinyard.errors import StoreFailure
from spinyard.store.schema import FIRST_READER_VERSION, HEAD, READER_VERSION, meta, metadata, sequence
from spinyard.store.session import Sessions


def prepare(sessions: Sessions, new_id: Callable[[], str]) -> str:
    """Makes the tables ready and returns the installation's id. Raises StoreFailure(store_too_new)."""
    with sessions.write(queue=False) as link:
        connection = link.core
        database = sessions.database
        database.lock_migrations(connection)
        if database.in_memory:
            _make_tables(connection)
        elif _revision(connection) != HEAD and _is_readable(connection, database.path):
            upgrade(connection)
        _is_readable(connection, database.path)
        return _installation(connection, new_id)


def upgrade(connection: sa.Connection, revision: str = HEAD) -> None:
    """Runs the migrations inside the caller's transaction: all or nothing."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _make_tables(connection: sa.Connection) -> None:
    """A store in memory is new and lives as long as its process: no history to go through."""
    for statement in _statements(connection.dialect.name):
        connection.exec_driver_sql(statement)


@cache
def _statements(dialect_name: str) -> tuple[str, ...]:
    assert dialect_name == "sqlite", dialect_name
    dialect = sqlite.dialect()
    out = []
    for table in metadata.sorted_tables:
        out.append(str(CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            out.append(str(CreateIndex(index).compile(dialect=dialect)))
    return tuple(out)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return revision


def _is_readable(connection: sa.Connection, path: str) -> bool:
    """False: a newer schema that we may use as it is. An empty database is ours to make."""
    if not sa.inspect(connection).has_table("meta"):
        return True
    known = dict(connection.execute(sa.select(meta.c.name, meta.c.value)).all())
    needed = int(known.get("min_reader_version", "0"))
    if needed > READER_VERSION:
        raise StoreFailure(
            f"the store {path} was written by a newer spinyard (it asks for reader version {needed}, "
            f"this one is {READER_VERSION})",
            code="store_too_new",
            next_step="use the newer spinyard again, or restore a backup made before the upgrade",
            details={"path": path, "min_reader_version": needed, "reader_version": READER_VERSION},
        )
    return (_revision(connection) or "") < HEAD


def _installation(connection: sa.Connection, new_id: Callable[[], str]) -> str:
    found: str | None = connection.execute(
        sa.select(meta.c.value).where(meta.c.name == "installation")
    ).scalar_one_or_none()
    if found is not None:
        return found
    installation = new_id()
    rows = {"installation": installation, "min_reader_version": str(FIRST_READER_VERSION)}
    connection.execute(meta.insert(), [{"name": name, "value": value} for name, value in rows.items()])
    connection.execute(sequence.insert().values(id=1, commit_seq=0))
    return installation
