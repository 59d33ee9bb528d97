"""The store of a home. Its own imports wait until it is opened: they cost more than a command line may take."""

from __future__ import annotations

from pathlib import Path

from spinyard.ports.clock import Clock
from spinyard.ports.store import Store
from spinyard.settings import Settings


def open_store(settings: Settings, clock: Clock) -> Store:
    from spinyard.store.store import SqlStore

    return SqlStore(settings.database_url or str(settings.store_file), new_id=clock.new_uid)


def restore_backup(settings: Settings, path: Path) -> None:
    from spinyard.store.restore import restore

    restore(str(path), str(settings.store_file))
