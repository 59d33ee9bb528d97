"""The process between the keeper and one program: forked from the keeper, never exec'ed, alive as long as the tree is.

Session leader and subreaper, it starts the program, pumps its output into bounded files, keeps its limits, ends it, and
writes down how it ended once nothing of its tree is left. It outlives the keeper, so it takes orders as signals
(SIGTERM: stop with grace; SIGUSR1: kill now) and answers in files.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Final, NamedTuple, NoReturn

from spinyard.keeper import isolation, kernel, launch, logs, memory, records, tree

READ_BYTES: Final = 65536
TREE_POLL_SECONDS_MAX: Final = 0.1
WAIT_SECONDS_MAX: Final = 86400.0
"""poll() takes milliseconds as an int, which end after 24.8 days; a limit may be years away"""
DRAIN_BYTES_MAX: Final = 4 << 20
STOP, KILL = signal.SIGTERM, signal.SIGUSR1
HANDLED: Final = (STOP, KILL, signal.SIGCHLD, signal.SIGINT)
FILES_MAX: Final = 16384
"""the keeper keeps its own open files below this"""


class Order(NamedTuple):
    """`directory` empty: a run. Its output is captured and its result written to the pipe `report`."""

    command: launch.Command
    directory: str
    log_path: str
    log_bytes: int
    grace_seconds: float
    timeout_seconds: float | None
    memory_bytes: int | None
    files_limit: tuple[int, int]
    fault_log: str
    output_bytes: int = 0
    stream: bool = False
    """of a run: its output goes to `report` as it comes, stdout and stderr apart"""
    subreaper: bool = True
    """False for supervised programs: a new keeper started by the server must not be part of the server's tree. Their
    orphans come to the keeper, which ends them."""


def become(order: Order, report: int | None = None) -> NoReturn:
    """In the child of the keeper's fork. Whatever happens, this process ends here."""
    try:
        leave_the_keeper(report)
        if order.subreaper:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        lock = records.lock_exit(order.directory) if order.directory else None
        if order.directory and lock is None:
            os._exit(1)  # given up by a new keeper before we began
        _Shim(order, lock, report).live()
    except Exception:
        fd = os.open(order.fault_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(fd, 2)
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(70)


def leave_the_keeper(report: int | None) -> None:
    """Nothing of the keeper may stay open here: its lock would outlive it, its clients would never see it gone."""
    signal.set_wakeup_fd(-1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if report is None:
        kernel.close_range(3, FILES_MAX)
    else:
        kernel.close_range(3, report - 1)
        kernel.close_range(report + 1, FILES_MAX)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, KILL)  # a run has nobody to report to without the keeper
    os.setsid()
    kernel.set_name("spinyard-shim")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)


def fork() -> int:
    """Signals are held back while two share one set of handlers; each side lets them in when it is ready."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return pid


class _Shim:
    def __init__(self, order: Order, lock: int | None, report: int | None) -> None:
        self._order = order
        self._lock = lock
        self._report = report
        self._sink = _sink(order, report, is_run=lock is None)
        self._is_held = False
        self._main = 0
        self._status: int | None = None
        self._told_status: int | None = None
        self._error_class = ""
        self._error = ""
        self._kill_at: float | None = None
        self._watch = memory.Watch(order.memory_bytes) if order.memory_bytes is not None else None
        self._signals, wake = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, STOP, KILL):
            signal.signal(number, lambda _number, _frame: None)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def live(self) -> NoReturn:
        try:
            self._start()
            self._watch_over()
            self._end_tree()
        except OSError as failed:
            self._error_class = self._error_class or _class_of(failed)
            self._error = self._error or f"the shim failed: {failed}"
            self._end_tree()
        self._sink.close()
        self._record()
        os._exit(0)

    # -- start -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._output, output = os.pipe()
        self._errors, errors = os.pipe() if self._order.stream else (-1, output)
        self._outputs = {fd for fd in (self._output, self._errors) if fd >= 0}
        self._failure, failure = os.pipe()
        wait, go = os.pipe()
        for fd in self._outputs:
            os.set_blocking(fd, False)
        isolated = self._order.command.isolation == isolation.NAMESPACES
        self._main = isolation.fork() if isolated else fork()
        if self._main == 0:
            signal.set_wakeup_fd(-1)
            os.close(go)  # or its own copy would hide the death of the shim from it
            if isolated:
                _separate(wait, failure, output)
            launch.launch(self._order.command, self._order.files_limit, wait, failure, output, errors)
        for fd in {output, errors, failure, wait}:
            os.close(fd)
        if self._lock is not None:
            self._identify()
        os.write(go, b"gg")  # the second one is for the program behind an init
        os.close(go)
        self._started = time.monotonic()

    def _identify(self) -> None:
        own, program = kernel.read_stat(os.getpid()), kernel.read_stat(self._main)
        assert own is not None and program is not None, "neither has been reaped"
        identity: records.Identity = {
            "boot_id": kernel.boot_id(),
            "shim_pid": os.getpid(),
            "shim_start": own.start_ticks,
            "pid": self._main,
            "pid_start": program.start_ticks,
        }
        records.write_json(f"{self._order.directory}/identity.json", identity)

    # -- while it runs ---------------------------------------------------------------------------------------------

    def _watch_over(self) -> None:
        poll = select.poll()
        for source in (self._signals, self._failure, *self._outputs):
            poll.register(source, select.POLLIN)
        while self._status is None:
            self._hold_back(poll)
            for fd, _ in poll.poll(self._wait_milliseconds()):
                if fd == self._signals:
                    self._obey(os.read(self._signals, 4096))
                elif fd == self._failure:
                    self._read_failure()
                    poll.unregister(fd)
                    if isinstance(self._sink, logs.Stream) and not self._error_class:
                        self._sink.write(b"", logs.STARTED)
                elif isinstance(self._sink, logs.Stream) and fd == self._report:
                    self._sink.flush()
                elif not self._pump(fd):
                    poll.unregister(fd)
                    self._outputs.discard(fd)
            self._check_limits(time.monotonic())

    def _hold_back(self, poll: select.poll) -> None:
        """While the keeper does not take what is there, nothing more is read."""
        if not isinstance(self._sink, logs.Stream) or self._report is None or self._sink.is_full == self._is_held:
            return
        self._is_held = self._sink.is_full
        if self._is_held:
            poll.register(self._report, select.POLLOUT)
        else:
            poll.unregister(self._report)
        for fd in self._outputs:
            poll.modify(fd, 0) if self._is_held else poll.modify(fd, select.POLLIN)

    def _wait_milliseconds(self) -> float | None:
        now = time.monotonic()
        times = [at for at in (self._kill_at, self._timeout_at(), self._watch_at()) if at is not None]
        return min(max(0.0, min(times) - now), WAIT_SECONDS_MAX) * 1000 + 1 if times else None

    def _timeout_at(self) -> float | None:
        limit = self._order.timeout_seconds
        return None if limit is None else self._started + limit

    def _watch_at(self) -> float | None:
        return None if self._watch is None else self._watch.due_at

    def _obey(self, received: bytes) -> None:
        if KILL in received:
            self._kill_at = 0.0
        elif STOP in received and self._kill_at is None:
            self._kill_at = time.monotonic() + self._order.grace_seconds
            os.kill(self._main, signal.SIGTERM)  # our own child, not yet reaped
            os.kill(self._main, signal.SIGCONT)
        if signal.SIGCHLD in received:
            self._reap()

    def _check_limits(self, now: float) -> None:
        timeout_at = self._timeout_at()
        if self._status is not None:
            return
        if self._watch is not None and self._watch.exceeded(now, os.getpid()):
            self._error_class, self._error = "OutOfMemory", self._watch.text
        elif timeout_at is not None and now >= timeout_at:
            self._error = "timeout"
        elif self._kill_at is None or now < self._kill_at:
            return
        self._end_tree()

    def _read_failure(self) -> None:
        """The reason of a failed start, or, from an init, how the program ended."""
        for line in os.read(self._failure, 8192).splitlines():
            told = json.loads(line)
            if "status" in told:
                self._told_status = told["status"]
            else:
                self._error_class, self._error = told["error_class"], told["error"]

    def _pump(self, fd: int) -> bool:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return True
        if isinstance(self._sink, logs.Stream):
            self._sink.write(data, logs.ERRORS if fd == self._errors else logs.OUTPUT)
        else:
            self._sink.write(data)
        return bool(data)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _reap(self) -> bool:
        """False when there is no child any more: then nothing of the tree is left, since orphans become ours."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._main:
                self._status = status

    def _end_tree(self) -> None:
        pause = 0.001
        while self._reap():
            tree.kill_below(os.getpid())
            select.select([self._signals], [], [], pause)
            self._drain_signals()
            pause = min(pause * 2, TREE_POLL_SECONDS_MAX)
        if self._main and self._status is not None:
            self._read_failure_late()
            self._drain_output()

    def _drain_signals(self) -> None:
        try:
            os.read(self._signals, 4096)
        except BlockingIOError:
            return

    def _read_failure_late(self) -> None:
        if select.select([self._failure], [], [], 0)[0]:
            self._read_failure()

    def _drain_output(self) -> None:
        for _ in range(DRAIN_BYTES_MAX // READ_BYTES):
            ready = select.select(sorted(self._outputs), [], [], 0)[0]
            self._outputs -= {fd for fd in ready if not self._pump(fd)}
            if not ready:
                return

    def _record(self) -> None:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        code, number = _ending(self._status if self._told_status is None else self._told_status)
        failed_to_start = bool(self._error_class) and self._error_class != "OutOfMemory"
        ending: records.Exit = {
            "exited_at": time.time(),
            "exit_code": None if failed_to_start else code,
            "exit_signal": number,
            "error_class": self._error_class,
            "error": self._error,
            # The kernel counts what was there before exec too: never below the size of this shim, about 10 MB.
            "peak_memory_bytes": max(used.ru_maxrss * 1024, self._watch.peak_bytes if self._watch else 0),
            "cpu_seconds": used.ru_utime + used.ru_stime,
        }
        if self._lock is not None:
            records.write_exit(self._lock, ending)
        elif isinstance(self._sink, logs.Stream):
            self._sink.end(json.dumps(ending).encode())
        elif self._report is not None and isinstance(self._sink, logs.Capture):
            _write_all(self._report, json.dumps({**ending, "output": self._sink.text}).encode())


def _sink(order: Order, report: int | None, *, is_run: bool) -> logs.BoundedFile | logs.Capture | logs.Stream:
    if not is_run:
        return logs.BoundedFile(order.log_path, order.log_bytes)
    if order.stream and report is not None:
        return logs.Stream(report)
    return logs.Capture(order.output_bytes)


def _separate(wait: int, failure: int, output: int) -> None:
    """In the new namespaces: returns in the process that becomes the program; the other stays as its init."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if not os.read(wait, 1):
        os._exit(127)
    program = os.fork()
    if program:
        os.close(output)
        isolation.stay_as_init(program, failure)


def _ending(status: int | None) -> tuple[int | None, int | None]:
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        return None, os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None


def _class_of(failed: OSError) -> str:
    return "DiskFull" if failed.errno in (errno.ENOSPC, errno.EDQUOT) else "CapacityUnavailable"


def _write_all(fd: int, data: bytes) -> None:
    os.set_blocking(fd, True)
    while data:
        data = data[os.write(fd, data) :]
