"""The log files of a spin as a stream of text. The keeper writes `<part>.log`, and before it `<part>.log.1`."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 64 * 1024
TAIL_SCAN_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogFile:
    """`path` and its predecessor; all methods block."""

    path: Path

    @property
    def exists(self) -> bool:
        return self.path.exists() or self._older.exists()

    @property
    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def tail(self, lines: int | None) -> tuple[bytes, Position]:
        """The last `lines` (None: all that is kept), of at most TAIL_SCAN_BYTES, and where they end."""
        data, at = _read_end(self.path, TAIL_SCAN_BYTES)
        if data.count(b"\n") <= (lines or 0) or lines is None:
            data = _read_end(self._older, TAIL_SCAN_BYTES - len(data))[0] + data
        return (data if lines is None else _last_lines(data, lines)), at

    def more(self, at: Position) -> tuple[bytes, Position]:
        """What came after `at`, first the rest of a file that was put aside meanwhile."""
        current = _position(self.path)
        if current.inode == at.inode or not at.inode:
            return _read_from(self.path, at.offset, current.inode)
        older = _position(self._older)
        rest = _read_from(self._older, at.offset, older.inode)[0] if older.inode == at.inode else b""
        data, position = _read_from(self.path, 0, current.inode)
        return rest + data, position


@dataclass(frozen=True, slots=True)
class Position:
    """`inode` 0: there is no file yet."""

    inode: int
    offset: int


Run = Callable[[Callable[[], tuple[bytes, Position]]], Awaitable[tuple[bytes, Position]]]


async def stream(
    file: LogFile,
    *,
    tail: int | None,
    follow: bool,
    run: Run,
    pause: Callable[[], Awaitable[None]],
    is_over: Callable[[], Awaitable[bool]],
) -> AsyncGenerator[bytes, None]:
    """With `follow` until `is_over` says that nothing more will come."""
    data, at = await run(lambda: file.tail(tail))
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]
    while follow:
        over = await is_over()
        data, at = await run(_more(file, at))
        if data:
            yield data
        elif over:
            return
        else:
            await pause()


def _more(file: LogFile, at: Position) -> Callable[[], tuple[bytes, Position]]:
    return lambda: file.more(at)


def _read_end(path: Path, bytes_max: int) -> tuple[bytes, Position]:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - bytes_max)
            file.seek(start)
            data = file.read(size - start)
            inode = os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return b"", Position(0, 0)
    return data, Position(inode, size)


def _read_from(path: Path, offset: int, inode: int) -> tuple[bytes, Position]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(TAIL_SCAN_BYTES)
            inode = os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return b"", Position(0, 0)
    return data, Position(inode, offset + len(data))


def _position(path: Path) -> Position:
    try:
        found = path.stat()
    except FileNotFoundError:
        return Position(0, 0)
    return Position(found.st_ino, found.st_size)


def _last_lines(data: bytes, lines: int) -> bytes:
    if lines <= 0:
        return b""
    end = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return data
    return data[end + 1 :]
