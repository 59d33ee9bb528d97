"""The bearer token of a home: made, replaced, read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from spinyard.clock import SystemClock
from spinyard.settings import Settings


def rotate_token(settings: Settings) -> None:
    """A new one, 0600, in one rename: there is no moment without a token."""
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = settings.token_file.with_suffix(".new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(SystemClock().new_secret() + "\n")
    fresh.replace(settings.token_file)


def is_own_token(path: Path) -> bool:
    """A regular file of ours that nobody else may read: what somebody put there beforehand is no secret."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


@dataclass(slots=True)
class Token:
    """Read again when the file changes, so that a rotated token counts at once."""

    path: Path
    mark: tuple[int, int] = (0, 0)
    value: str = ""

    def __call__(self) -> str:
        found = self.path.stat()
        mark = (found.st_mtime_ns, found.st_ino)
        if mark != self.mark:
            self.value, self.mark = self.path.read_text().strip(), mark
        return self.value
