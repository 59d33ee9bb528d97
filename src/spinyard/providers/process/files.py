"""Small files in a data directory: what a claim brings. Written beside and renamed, so a reader never sees half of
one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from spinyard.core.observed import DirectoryFacts
from spinyard.core.want import content_mark
from spinyard.errors import ErrorClass, ProviderFailure

MARKED_MAX = 64
"""files looked at in a directory; more are the program's own and nobody asks for them"""
BYTES_MAX = 1 << 20
AT_ONCE_BYTES_MAX = 64 << 10
"""read where it is asked for: to hand so little to a thread costs more than to read it"""
CLAIM = "claim"


def write(directory: Path, name: str, content: str) -> None:
    """0600. `name` is one path element. Not synced: after a crash of the machine nobody is left to read it."""
    if name in (".", "..") or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "not the name of a file", name)
    fresh = directory / f".{name}.new"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(content)
    os.replace(fresh, directory / name)


def facts(path: str) -> DirectoryFacts:
    """Of a claim directory also its files, with the marks of their content."""
    if not path.rstrip("/").endswith(CLAIM):
        return DirectoryFacts(path=path)
    return DirectoryFacts(path=path, files=tuple(_mark(entry) for entry, _ in _marked(path)))


def facts_at_once(path: str) -> DirectoryFacts | None:
    """The same; None when there is too much to read for who must not stand still."""
    if not path.rstrip("/").endswith(CLAIM):
        return DirectoryFacts(path=path)
    found = _marked(path)
    if sum(size for _, size in found) > AT_ONCE_BYTES_MAX:
        return None
    return DirectoryFacts(path=path, files=tuple(_mark(entry) for entry, _ in found))


def _marked(path: str) -> list[tuple[os.DirEntry[str], int]]:
    """The files that are looked at, and their sizes."""
    with os.scandir(path) as entries:
        first = sorted(entries, key=lambda entry: entry.name)[:MARKED_MAX]
    sized = [(entry, entry.stat().st_size) for entry in first if entry.is_file(follow_symlinks=False)]
    return [(entry, size) for entry, size in sized if size <= BYTES_MAX]


def _mark(entry: os.DirEntry[str]) -> tuple[str, str]:
    return entry.name, content_mark(Path(entry.path).read_text(errors="replace"))


def failure(directory: str, name: str, cause: OSError) -> ProviderFailure:
    full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return ProviderFailure(
        f"cannot write {name} in {directory}: {cause.strerror}",
        error_class=ErrorClass.DISK_FULL if full else ErrorClass.PROVIDER_ERROR,
        retryable=full,
    )
