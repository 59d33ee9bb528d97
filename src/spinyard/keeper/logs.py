"""Output of programs, kept within a bound: a current file and one predecessor, each at most half of it.

A disk that is full must not stop the program: what cannot be written is dropped and counted, and the count is written
when there is room again.
"""

from __future__ import annotations

import os
import struct
import time
from typing import Final

RETRY_SECONDS: Final = 1.0
STREAM_BYTES_MAX: Final = 128 << 10
FRAME: Final = struct.Struct(">cI")
STARTED, OUTPUT, ERRORS, ENDED = b"s", b"o", b"e", b"x"
TAIL_BYTES: Final = 2048


class BoundedFile:
    __slots__ = ("_dropped", "_fd", "_half", "_path", "_retry_at", "_size")

    def __init__(self, path: str, bytes_max: int) -> None:
        self._path = path
        self._half = max(bytes_max // 2, 1)
        self._fd = -1
        self._size = 0
        self._dropped = 0
        self._retry_at = 0.0

    def write(self, data: bytes) -> None:
        if self._retry_at and time.monotonic() < self._retry_at:
            self._dropped += len(data)
            return
        done = 0
        try:
            self._report_drops()
            while done < len(data):
                done += self._write_some(data[done:])
            self._retry_at = 0.0
        except OSError:
            self._dropped += len(data) - done
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _report_drops(self) -> None:
        if self._dropped:
            self._write_some(f"[spinyard: {self._dropped} bytes of output dropped, the disk was full]\n".encode())
            self._dropped = 0

    def _write_some(self, data: bytes) -> int:
        if self._fd < 0:
            self._open()
        if self._size >= self._half:
            self._rotate()
        written = os.write(self._fd, data[: self._half - self._size])
        self._size += written
        return written

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def _rotate(self) -> None:
        self.close()
        os.replace(self._path, self._path + ".1")
        self._open()


class Capture:
    """The first `bytes_max` bytes of a command's output, in memory."""

    __slots__ = ("_left", "_parts")

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        if self._left > 0:
            self._parts.append(data[: self._left])
            self._left -= len(data)

    def close(self) -> None:
        return

    @property
    def text(self) -> str:
        return b"".join(self._parts).decode(errors="replace")


class Stream:
    """A command's output to the keeper as it comes, in frames. While the keeper does not take them it `is_full`, nobody
    reads on from the program, and the program waits."""

    __slots__ = ("_fd", "_waiting")

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._waiting = bytearray()

    @property
    def is_full(self) -> bool:
        return len(self._waiting) > STREAM_BYTES_MAX

    def write(self, data: bytes, kind: bytes = OUTPUT) -> None:
        if data or kind == STARTED:
            self._waiting += FRAME.pack(kind, len(data)) + data
            self.flush()

    def flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: os.write(self._fd, self._waiting)]
        except BlockingIOError:
            return
        except OSError:
            self._waiting.clear()  # nobody listens any more; the signal of that is under way

    def end(self, data: bytes) -> None:
        """The last frame, when all the others have been taken."""
        os.set_blocking(self._fd, True)
        self.write(data, ENDED)

    def close(self) -> None:
        return


def log_path(home: str, log_name: str, key: str) -> str:
    """`<home>/logs/<log name>/<part of the key>.log`."""
    part = key.partition("/")[2] or key
    return f"{home}/logs/{log_name}/{part.replace('/', '-')}.log"


def tail_of(path: str) -> str:
    data = b""
    for name in (path, path + ".1"):
        try:
            with open(name, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - (TAIL_BYTES - len(data))))
                data = file.read(TAIL_BYTES - len(data)) + data
        except OSError:
            continue
        if len(data) >= TAIL_BYTES:
            break
    return data.decode(errors="replace")
