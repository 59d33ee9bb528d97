"""The log of a supervised program: its end, and what comes. The keeper cuts it off at a bound and begins a new file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TAIL_BYTES = 64 << 10
POLL_SECONDS = 0.2


def log_of(log_dir: Path, name: str) -> Path:
    return log_dir / f"{name}.log"


def last_lines(path: Path, count: int) -> list[str]:
    """Empty for a file that is not there."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            data = file.read(TAIL_BYTES)
    except OSError:
        return []
    return data.decode(errors="replace").splitlines()[-count:]


def new_lines(path: Path, is_over: Callable[[], bool]) -> Iterator[str]:
    """Complete lines written from now on, until `is_over`; a file that was replaced is read from its start."""
    position, inode, rest = _end_of(path), _inode(path), b""
    while not is_over():
        now = _inode(path)
        if now != inode:
            position, inode, rest = 0, now, b""
        data = _read_from(path, position)
        if not data:
            time.sleep(POLL_SECONDS)
            continue
        position += len(data)
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")


def _read_from(path: Path, position: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(position)
            return file.read(TAIL_BYTES)
    except OSError:
        return b""


def _end_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0
