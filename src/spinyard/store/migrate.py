"""From no tables, or older ones, to those of this version. Within one version migrations only add."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from spinyard.store.dialect import Database
from spinyard.store.schema import READER_VERSION, meta, metadata, sequence
from spinyard.store.session import Sessions


def prepare(sessions: Sessions, new_id: Callable[[], str]) -> str:
    """Makes the tables ready and returns the installation's id."""
    with sessions.write(queue=False) as connection:
        sessions.database.lock_migrations(connection)
        metadata.create_all(connection)
        found = connection.execute(sa.select(meta.c.value).where(meta.c.name == "installation")).scalar_one_or_none()
        if found is not None:
            return found
        installation = new_id()
        connection.execute(
            meta.insert(),
            [
                {"name": "installation", "value": installation},
                {"name": "min_reader_version", "value": str(READER_VERSION)},
            ],
        )
        connection.execute(sequence.insert().values(id=1, commit_seq=0))
        return installation
