"""Putting a backup in the place of a store. The store must not be open, and must not exist: nothing is overwritten."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from spinyard.errors import Conflict, NotFound, StoreFailure
from spinyard.store.dialect import failure_of, sync_file, take_lock


def restore(backup: str, path: str) -> None:
    """Copies `backup`, once it is checked, to `path`. Raises NotFound, Conflict(already_exists), StoreFailure."""
    if not os.path.isfile(backup):
        raise NotFound(f"there is no backup {backup}", next_step="give the path of a file made by `spinyard backup`")
    lock = take_lock(path)
    try:
        if os.path.lexists(path):
            raise Conflict(
                f"{path} exists already",
                code="already_exists",
                next_step="move the old store away first (with its -wal and -shm files), then restore again",
            )
        _check(backup)
        _copy(backup, path)
    finally:
        os.close(lock)


def _check(backup: str) -> None:
    try:
        with closing(sqlite3.connect(f"{Path(backup).absolute().as_uri()}?mode=ro", uri=True)) as connection:
            [answer] = connection.execute("PRAGMA integrity_check(1)").fetchone()
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise failure_of(error, backup) from error
    if answer != "ok" or not {"meta", "objects", "sequence"} <= tables:
        raise StoreFailure(
            f"{backup} is not a whole backup of a store ({answer})",
            code="store_corrupt",
            next_step="use another backup",
            details={"path": backup},
        )


def _copy(backup: str, path: str) -> None:
    """Whole or not at all: a crash in the middle leaves a .part file and no store."""
    part = f"{path}.part"
    # Left behind by a store that is gone; a new database must never meet an old log.
    for stale in (f"{path}-wal", f"{path}-shm", part):
        Path(stale).unlink(missing_ok=True)
    try:
        shutil.copyfile(backup, part)
        os.chmod(part, 0o600)
        sync_file(part)
        os.rename(part, path)
        sync_file(path)
    except OSError as error:
        Path(part).unlink(missing_ok=True)
        raise failure_of(error, path) from error
