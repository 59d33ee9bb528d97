"""Isolation that is asked for by name, and either in force or refused.

`namespaces`: the program sees only its own processes and has a /tmp of its own. A small init (a fork of the shim, pid 1
of the namespace) stays with it: a program that is pid 1 itself would be immune to signals it does not handle. When that
init ends, the kernel ends everything in the namespace. Without root it takes a user namespace as well.
"""

from __future__ import annotations

import functools
import json
import os
import signal
from typing import Final, NoReturn

from spinyard.keeper import kernel

NONE: Final = "none"
NAMESPACES: Final = "namespaces"
TMP_OPTIONS: Final = "mode=1777,size=25%"
_TMP: Final = "/tmp"  # noqa: S108  (the directory that is replaced)


def refusal_of(name: str) -> str:
    """Why it cannot be had here; empty when it can."""
    if name in ("", NONE):
        return ""
    if name != NAMESPACES:
        return f"isolation {name!r} is not known"
    return _try_once()


def fork() -> int:
    """Like fork, with the child as pid 1 of namespaces of its own. Signals are held back in the child."""
    user = 0 if os.geteuid() == 0 else kernel.CLONE_NEWUSER
    ids = (os.geteuid(), os.getegid())
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGINT))
    try:
        pid = kernel.clone(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | user)
        if pid == 0 and user:
            _map_ids(*ids)
    finally:
        if "pid" not in locals() or pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _map_ids(uid: int, gid: int) -> None:
    """Only our own ids exist inside, under their own numbers."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def stay_as_init(program: int, report: int) -> NoReturn:
    """In pid 1: hands SIGTERM on, reaps, and tells how the program ended, since pid 1 cannot die the same way."""
    kernel.set_name("spinyard-init")
    while True:
        if signal.sigwait((signal.SIGTERM, signal.SIGCHLD)) == signal.SIGTERM:
            os.kill(program, signal.SIGTERM)  # our own child, not yet reaped
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                os._exit(0)
            if pid == program:
                os.write(report, json.dumps({"status": status}).encode() + b"\n")
                os._exit(0)
            if pid == 0:
                break


def hide(kept: list[str]) -> None:
    """In the program's process before exec: own /proc and /tmp. Directories of `kept` below /tmp stay in sight."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    seen = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in kept if path.startswith(_TMP + "/")}
    kernel.mount("tmpfs", _TMP, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, TMP_OPTIONS)
    for path, fd in seen.items():
        os.makedirs(path, mode=0o700, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{fd}", path, "", kernel.MS_BIND | kernel.MS_REC)
        os.close(fd)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def join(pid: int) -> None:
    """The files as that isolated program sees them. Its process ids are not joined: that would take another fork."""
    pidfd = os.pidfd_open(pid)
    kernel.setns(pidfd, kernel.CLONE_NEWNS if os.geteuid() == 0 else kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    os.close(pidfd)


@functools.cache
def _try_once() -> str:
    """The whole of it, in a process that ends at once: kernels and containers differ too much to guess."""
    said, report = os.pipe()
    try:
        pid = fork()
    except OSError as failed:
        os.close(said)
        os.close(report)
        return f"namespaces cannot be made here: {failed}"
    if pid == 0:
        _try_and_exit(report)
    os.close(report)
    reason = os.read(said, 4096).decode(errors="replace")
    os.close(said)
    return f"namespaces cannot be set up here: {reason}" if reason else ""


def _try_and_exit(report: int) -> NoReturn:
    try:
        hide([])
    except OSError as failed:
        os.write(report, str(failed).encode())
    finally:
        os._exit(0)
