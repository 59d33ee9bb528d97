"""The few calls of Linux that the standard library has not, and the facts of /proc that prove who a process is."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from typing import Final, NamedTuple

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000

SYS_CLONE: Final = {"x86_64": 56, "aarch64": 220}
SYS_CLOSE_RANGE: Final = 436
"""the same on every architecture"""

MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18

ENVIRON_BYTES_MAX: Final = 4 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Stat(NamedTuple):
    """Of /proc/<pid>/stat. `start_ticks`, since boot, is what tells a process from a later one with its pid."""

    state: str
    ppid: int
    start_ticks: int


def prctl(option: int, value: int) -> None:
    _checked(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), "prctl")


def set_name(name: str) -> None:
    """Shown by ps and top; at most 15 bytes."""
    _libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()[:15]), 0, 0, 0)


def clone(flags: int) -> int:
    """A fork into new namespaces: 0 in the child. The C library's own wrapper wants a stack and a function."""
    number = SYS_CLONE.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"clone is not known for {os.uname().machine}")
    pid: int = ctypes.PyDLL(None, use_errno=True).syscall(number, ctypes.c_ulong(flags | signal.SIGCHLD), 0, 0, 0, 0)
    if pid < 0:
        _checked(pid, "clone")
    return pid


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _checked(
        _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()), "mount"
    )


def setns(fd: int, flags: int) -> None:
    _checked(_libc.setns(fd, flags), "setns")


def _checked(result: int, name: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def close_range(first: int, last: int) -> None:
    """os.closerange may close them one by one, which costs milliseconds; the call is of Linux 5.9."""
    if _libc.syscall(SYS_CLOSE_RANGE, first, last, 0) != 0:
        for name in os.listdir("/proc/self/fd"):
            if first <= int(name) <= last:
                _libc.close(int(name))


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def read_stat(pid: int) -> Stat | None:
    """None when there is no such process. The command's name may hold spaces and brackets: read from the last one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Stat(fields[0].decode(), int(fields[1]), int(fields[19]))


def read_environ(pid: int) -> list[bytes]:
    """As it was at exec; empty when it cannot be read. A program that writes over it (setproctitle) hides its own."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return [entry for entry in file.read(ENVIRON_BYTES_MAX).split(b"\0") if entry]
    except OSError:
        return []


def open_verified(pid: int, start_ticks: int) -> int | None:
    """A pidfd of that very process, or None. The check comes after the opening: before it the pid may change hands."""
    try:
        fd = os.pidfd_open(pid)
    except (ProcessLookupError, ValueError, OverflowError):
        return None
    stat = read_stat(pid)
    if stat is None or stat.start_ticks != start_ticks:
        os.close(fd)
        return None
    return fd


def send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
