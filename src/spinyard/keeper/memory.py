"""The memory limit of a tree, kept by sampling.

Works on every kernel, without cgroups and rights. Its limits: a program that allocates faster than the samples come can
pass the limit for a moment (up to a quarter of a second), and pages that are swapped out do not count.
"""

from __future__ import annotations

import os
import time
from typing import Final

from spinyard.keeper import tree

PERIOD_SECONDS: Final = 0.25
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Watch:
    __slots__ = ("_limit", "due_at", "peak_bytes", "text")

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.due_at = time.monotonic()
        self.peak_bytes = 0
        self.text = ""

    def exceeded(self, now: float, root: int) -> bool:
        """Of everything below `root`. Resident sizes count shared pages once per process, so only a sum that is too
        large is looked at again by proportional sizes, which are exact and cost more."""
        if now < self.due_at:
            return False
        self.due_at = now + PERIOD_SECONDS
        pids = [pid for pid, _ in tree.descendants_of(root)]
        used = sum(_resident_bytes(pid) for pid in pids)
        if used > self._limit:
            used = sum(_proportional_bytes(pid) for pid in pids)
        self.peak_bytes = max(self.peak_bytes, min(used, self._limit) if used <= self._limit else used)
        if used <= self._limit:
            return False
        self.text = f"used {used} bytes of memory, the limit is {self._limit}"
        return True


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _proportional_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return _resident_bytes(pid)
    return 0
