"""`python -m spinyard.keeper --home DIR [--detach]`. Exit codes: 0, 2 usage, 4 error, 8 the home has a keeper."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import resource
import signal
import socket
import struct
import sys
from typing import Final, NoReturn

from spinyard.keeper import kernel, retention, shim
from spinyard.keeper.loop import READ, Loop
from spinyard.keeper.operations import Operations
from spinyard.keeper.wire import Connection, refusal

CONNECTIONS_MAX: Final = 192
LOG_BYTES_MAX: Final = 1 << 20
HOUSEKEEPING_SECONDS: Final = 5.0
TAGS: Final = ("SPINYARD_KEY", "SPINYARD_INSTALLATION", "SPINYARD_KEEPER")
RETENTION_SECONDS: Final = 60.0


def main(arguments: list[str]) -> int:
    home, detach = _read_arguments(arguments)
    _leave_the_tags()
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as failed:
        return _say(f"this kernel has no pidfd_open, Linux 5.3 or newer is needed: {failed}", 4)
    try:
        for name in ("", "/run", "/logs"):
            os.makedirs(home + name, mode=0o700, exist_ok=True)
        lock = _lock(home)
    except OSError as failed:
        return _say(f"the home {home} cannot be used: {failed}", 4)
    if lock is None:
        return _say(f"a keeper for {home} runs already (pid {_holder(home)}); one home has one keeper", 8)
    ready = _detach(home) if detach else None
    _note_pid(lock)
    keeper = _Keeper(home, detached=detach)
    keeper.open()
    if ready is not None:
        os.write(ready, b"ok")
        os.close(ready)
    keeper.run()
    return 0


def _read_arguments(arguments: list[str]) -> tuple[str, bool]:
    rest = list(arguments)
    detach = "--detach" in rest
    if detach:
        rest.remove("--detach")
    if len(rest) != 2 or rest[0] != "--home" or not rest[1]:
        sys.exit(_say("usage: python -m spinyard.keeper --home DIR [--detach]", 2))
    return os.path.abspath(rest[1]), detach


def _leave_the_tags() -> None:
    """Started from inside a program of ours, a keeper would carry that program's tags in what /proc shows of it and of
    all its shims: only a new exec clears them."""
    if any(name in os.environ for name in TAGS):
        clean = {name: value for name, value in os.environ.items() if name not in TAGS}
        os.execve(sys.executable, sys.orig_argv, clean)


def _say(message: str, code: int) -> int:
    sys.stderr.write(f"spinyard keeper: {message}\n")
    return code


# -- one per home -----------------------------------------------------------------------------------------------------


def _lock(home: str) -> int | None:
    """Held for life by the open file, so it must never be open in a shim."""
    fd = os.open(f"{home}/run/keeper.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _note_pid(lock: int) -> None:
    """For people who read the message of a second keeper; nothing is decided from it."""
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except OSError as failed:
        _say(f"its pid was not noted: {failed}", 0)


def _holder(home: str) -> str:
    with open(f"{home}/run/keeper.lock") as file:
        return file.read().strip() or "unknown"


# -- into the background ----------------------------------------------------------------------------------------------


def _detach(home: str) -> int:
    """The caller's process waits until the socket answers, so that whoever starts a keeper can use it at once."""
    wait, ready = os.pipe()
    if os.fork():
        os.close(ready)
        _report(wait, home)
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(wait)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    _open_log(home)
    return ready


def _report(wait: int, home: str) -> NoReturn:
    answer = os.read(wait, 2)
    if answer != b"ok":
        _say(f"could not start, see {home}/logs/keeper.log", 4)
    os._exit(0 if answer == b"ok" else 4)


def _open_log(home: str) -> None:
    try:
        fd = os.open(f"{home}/logs/keeper.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY)
    os.dup2(fd, 2)
    os.close(fd)


# -- the keeper itself ------------------------------------------------------------------------------------------------


class _Keeper:
    def __init__(self, home: str, *, detached: bool) -> None:
        self._home = home
        self._detached = detached
        files_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = shim.FILES_MAX if files_limit[1] == resource.RLIM_INFINITY else min(shim.FILES_MAX, files_limit[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, files_limit[1]))
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        kernel.set_name("spinyard-keeper")
        self._loop = Loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.on_signal(number, self._end)
        self._loop.on_signal(signal.SIGCHLD, self._reap)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._operations = Operations(home, self._loop, files_limit)
        self._clients: set[Connection] = set()
        self._path = f"{home}/run/keeper.sock"
        self._is_homeless = False

    def open(self) -> None:
        self._operations.load()
        self._listener = _listen(self._path)
        self._loop.watch(self._listener.fileno(), READ, lambda _mask: self._accept())
        self._housekeep()
        self._prune_logs()

    def run(self) -> None:
        # What exists now lives for ever: out of the collector's sight, its pages stay shared with the shims.
        gc.collect()
        gc.freeze()
        self._loop.run()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _end(self) -> None:
        """By a signal: alone. Instances and supervised programs go on, for the next keeper to find."""
        self._loop.running = False

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        if not _is_ours(peer):
            peer.close()
            return
        for other in list(self._clients):
            other.drain()
        client = Connection(self._loop, peer, self._operations.answer)
        if len(self._clients) >= CONNECTIONS_MAX:
            message = f"this keeper has {CONNECTIONS_MAX} connections already"
            client.send(refusal(0, "TooMany", message, retryable=True))
            client.close_when_sent()
            return
        self._clients.add(client)
        client.on_close.append(lambda: self._clients.discard(client))

    def _reap(self) -> None:
        """Endings are known from pidfds; here only the dead are let go."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return

    def _housekeep(self) -> None:
        self._operations.instances.kill_orphans()
        if self._detached and os.fstat(2).st_size > LOG_BYTES_MAX:
            path = f"{self._home}/logs/keeper.log"
            os.replace(path, path + ".1")
            _open_log(self._home)
        self._look_after_socket()
        self._loop.after(HOUSEKEEPING_SECONDS, self._housekeep)

    def _look_after_socket(self) -> None:
        """A cleaner of /tmp may take the socket's name away: it is bound again. When the whole home is gone, nobody can
        ever speak to us or find what runs: everything ends, or it would run for ever."""
        if os.path.exists(self._path) or self._is_homeless:
            return
        if not os.path.isdir(os.path.dirname(self._path)):
            _say(f"{self._home} was deleted: ending everything", 0)
            self._is_homeless = True
            self._operations.end_everything()
            return
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._listener = _listen(self._path)
        self._loop.watch(self._listener.fileno(), READ, lambda _mask: self._accept())

    def _prune_logs(self) -> None:
        self._loop.after(RETENTION_SECONDS, self._prune_logs)
        if self._is_homeless:
            return
        instances = self._operations.instances.all()
        in_use = {instance.start["log_name"].partition("/")[0] for instance in instances}
        try:
            retention.prune(f"{self._home}/logs", in_use)
        except OSError as failed:
            _say(f"logs were not pruned: {failed}", 0)


def _listen(path: str) -> socket.socket:
    """We hold the lock, so a socket file found here is left over. Bound by its short name: a home may be long."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.getcwd()
    os.chdir(os.path.dirname(path))
    mask = os.umask(0o177)
    listener.bind(os.path.basename(path))
    os.umask(mask)
    os.chdir(before)
    listener.listen(CONNECTIONS_MAX)
    listener.setblocking(False)
    return listener


def _is_ours(peer: socket.socket) -> bool:
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (os.geteuid(), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
