"""Everything below a process: found by walking children, killed by pidfd, never by a number alone.

The walk needs no process group and no session, so setsid and double forks do not hide from it: whatever loses its
parent becomes a child of the nearest subreaper, a shim or the keeper. The proof of emptiness is ECHILD of waitpid.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

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


def find_tokens(installation: str) -> dict[str, list[tuple[int, int]]]:
    """Processes that carry this installation's token in their environment: key -> [(pid, start ticks)]. Reads all of
    /proc: about 30 us per process."""
    mark = b"SPINYARD_INSTALLATION=" + installation.encode()
    found: dict[str, list[tuple[int, int]]] = {}
    for pid in all_pids():
        stat = kernel.read_stat(pid)
        if stat is None or stat.state == "Z":
            continue
        entries = kernel.read_environ(pid)
        if mark not in entries:
            continue
        key = next((entry[13:].decode(errors="replace") for entry in entries if entry.startswith(b"SPINYARD_KEY=")), "")
        if key:
            found.setdefault(key, []).append((pid, stat.start_ticks))
    return found


def kill_tokened(pid: int, start_ticks: int, key: str, installation: str) -> None:
    """SIGKILL, after pid, start time and both tokens were verified again with the pidfd open."""
    fd = kernel.open_verified(pid, start_ticks)
    if fd is None:
        return
    try:
        entries = kernel.read_environ(pid)
        if f"SPINYARD_KEY={key}".encode() in entries and f"SPINYARD_INSTALLATION={installation}".encode() in entries:
            kernel.send(fd, signal.SIGKILL)
    finally:
        os.close(fd)
