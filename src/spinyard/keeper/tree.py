"""Everything below a process: found by walking children, killed by pidfd, never by a number alone.

The walk needs no process group and no session, so setsid and double forks do not hide from it: whatever loses its
parent becomes a child of the nearest subreaper, a shim or the keeper. The proof of emptiness is ECHILD of waitpid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import NamedTuple

from spinyard.keeper import kernel


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as file:
                found.extend(int(child) for child in file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        # Gone while being read, or a kernel without CONFIG_PROC_CHILDREN: the slow way gives the same answer.
        if not os.path.exists("/proc/thread-self/children"):
            return [child for child in all_pids() if (stat := kernel.read_stat(child)) and stat.ppid == pid]
    return found


def descendants_of(pid: int) -> list[tuple[int, int]]:
    """(pid, parent) of all below, parents first. A snapshot: what forks meanwhile is seen by the next one."""
    found: list[tuple[int, int]] = []
    seen = {pid}
    queue = [pid]
    while queue:
        parent = queue.pop()
        for child in children_of(parent):
            if child not in seen:
                seen.add(child)
                found.append((child, parent))
                queue.append(child)
    return found


def kill_below(pid: int) -> int:
    """SIGKILL for all below `pid` (ourselves: the reaper). Returns how many were found, zombies too."""
    found = descendants_of(pid)
    for child, parent in found:
        _kill_if_child(child, (parent, pid))
    return len(found)


def _kill_if_child(pid: int, parents: tuple[int, int]) -> None:
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        stat = kernel.read_stat(pid)
        if stat is not None and stat.ppid in parents and stat.state != "Z":
            kernel.send(fd, signal.SIGKILL)
    finally:
        os.close(fd)


def all_pids() -> Iterable[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


class Tag(NamedTuple):
    """What every program of ours carries in its environment beside its key. Two homes may have one installation id (a
    copy, a restored backup): the keeper's own mark keeps their programs apart."""

    installation: str
    keeper: str

    def is_in(self, entries: list[bytes]) -> bool:
        return (
            bool(self.installation)
            and b"SPINYARD_INSTALLATION=" + self.installation.encode() in entries
            and b"SPINYARD_KEEPER=" + self.keeper.encode() in entries
        )


def mark_of(home: str) -> str:
    """The directory itself, not its name: it stays with a home that is moved, and a copy has another one."""
    status = os.stat(f"{home}/run")
    return f"{status.st_dev:x}-{status.st_ino:x}"


def find_tagged(tag: Tag) -> dict[str, list[tuple[int, int]]]:
    """Processes that carry the tag: key -> [(pid, start ticks)]. Reads all of /proc: about 30 us per process."""
    found: dict[str, list[tuple[int, int]]] = {}
    for pid in all_pids():
        stat = kernel.read_stat(pid)
        if stat is None or stat.state == "Z":
            continue
        entries = kernel.read_environ(pid)
        key = next((entry[13:].decode(errors="replace") for entry in entries if entry.startswith(b"SPINYARD_KEY=")), "")
        if key and tag.is_in(entries):
            found.setdefault(key, []).append((pid, stat.start_ticks))
    return found


def kill_tagged(pid: int, start_ticks: int, key: str, tag: Tag) -> None:
    """SIGKILL, after pid, start time, key and tag were verified again with the pidfd open."""
    fd = kernel.open_verified(pid, start_ticks)
    if fd is None:
        return
    try:
        entries = kernel.read_environ(pid)
        if tag.is_in(entries) and f"SPINYARD_KEY={key}".encode() in entries:
            kernel.send(fd, signal.SIGKILL)
    finally:
        os.close(fd)
