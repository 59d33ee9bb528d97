"""Logs of instances that are gone stay to be read, within a bound: the oldest directories go first."""

from __future__ import annotations

import os
from typing import Final

DIRECTORIES_MAX: Final = 1000
BYTES_MAX: Final = 2 << 30


def prune(root: str, in_use: set[str], directories_max: int = DIRECTORIES_MAX, bytes_max: int = BYTES_MAX) -> list[str]:
    """Deletes the log directories below `root` that are beyond the bounds and not in use; returns their names."""
    found = sorted(_directories(root), reverse=True)
    total = 0
    gone = []
    for count, (_, name, size) in enumerate(found, start=1):
        total += size
        if (count > directories_max or total > bytes_max) and name not in in_use:
            _delete(f"{root}/{name}")
            gone.append(name)
    return gone


def _directories(root: str) -> list[tuple[float, str, int]]:
    """(last change, name, bytes). Only plain files directly inside are ours."""
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with os.scandir(entry.path) as files:
                    statuses = [file.stat(follow_symlinks=False) for file in files]
                newest = max((status.st_mtime for status in statuses), default=entry.stat().st_mtime)
                found.append((newest, entry.name, sum(status.st_size for status in statuses)))
    return found


def _delete(path: str) -> None:
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
    os.rmdir(path)
