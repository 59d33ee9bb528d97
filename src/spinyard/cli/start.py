"""Keeper and server of a home: started when they do not run, in that order, each until it answers.

The keeper is started detached, so it outlives this command; it starts the server and starts it again when it dies.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from spinyard.cli.keeper_link import SOCKET_PATH_BYTES_MAX, KeeperLink
from spinyard.cli.logtail import last_lines, log_of
from spinyard.cli.settings_file import home_not_writable, kept_settings, make_home
from spinyard.client import ServerFile, from_home, read_server_file
from spinyard.clock import SystemClock
from spinyard.errors import ServerAlreadyRunning, SpinyardError, SystemFailure, Unreachable
from spinyard.settings import Settings

SERVER = "server"
ENVOY = "envoy"
KEEPER_SECONDS = 15.0
KEEPER_EXIT_TAKEN = 8
SERVER_SECONDS = 45.0
RESTARTS_MAX = 3
"""of a server that never answered: more tries would end the same way"""
ENVIRONMENT_PREFIXES = ("PYTHON", "SPINYARD_", "LC_", "TZ", "TMPDIR")
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Started:
    server: ServerFile
    keeper_started: bool
    server_started: bool


def ensure_running(settings: Settings, *, replace_server: bool = False, take_over: bool = False) -> Started:
    """Both answer when this returns. `replace_server`: one that runs is refused (ServerAlreadyRunning), one that is
    registered but does not answer is started anew with these settings. `take_over`: one that runs, of this or another
    version, is stopped first; the keeper, Envoy and all instances go on."""
    _check_socket_path(settings)
    make_home(settings.home)
    with _only_one_start(settings.home):
        server = answering(settings.home)
        if server is not None and take_over:
            stop_supervised(KeeperLink(settings.keeper_socket), SERVER, grace_seconds=10.0)
            server = None
        if server is not None:
            if replace_server:
                raise _already(server, settings.home)
            if KeeperLink(settings.keeper_socket).is_alive():
                return Started(server, keeper_started=False, server_started=False)
        keeper_started = ensure_keeper(settings)
        if server is not None:
            return Started(server, keeper_started, server_started=False)
        try:
            with kept_settings(settings):
                return Started(_start_server(settings), keeper_started, server_started=True)
        except SpinyardError:
            if keeper_started:
                # A start that failed leaves behind what it found; instances of an earlier one go on.
                stop_keeper(KeeperLink(settings.keeper_socket), instances=False)
            raise


def answering(home: Path) -> ServerFile | None:
    """The server of that home, if one says that it is ready."""
    server = read_server_file(home)
    if server is None or not process_exists(server.pid):
        return None
    try:
        return server if from_home(home).is_ready() else None
    except SpinyardError:
        return None


def process_exists(pid: int) -> bool:
    """One that has ended does not, reaped or not: in a container nobody may ever reap what was detached."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:
        return True


def server_argv(home: Path) -> list[str]:
    return [sys.executable, "-m", "spinyard.cli", "server-process", "--home", str(home)]


def _already(server: ServerFile, home: Path) -> ServerAlreadyRunning:
    error = ServerAlreadyRunning(
        f"a server already runs for home {home}: pid {server.pid}, {server.url}",
        next_step="use it, take its place with --take-over, stop it with `spinyard down`, or give another --home",
        details={"pid": server.pid, "url": server.url, "home": str(home)},
    )
    error.fault = "user"
    return error


def _check_socket_path(settings: Settings) -> None:
    longest = max((settings.keeper_socket, settings.xds_socket, settings.admin_socket), key=lambda path: len(str(path)))
    if len(os.fsencode(longest)) > SOCKET_PATH_BYTES_MAX:
        error = SystemFailure(
            f"the path of the home is too long for unix sockets: {longest}",
            code="home_path_too_long",
            next_step=f"give a --home of less than {SOCKET_PATH_BYTES_MAX - len('/run/envoy-admin.sock')} bytes",
        )
        error.fault = "user"
        raise error


@contextmanager
def _only_one_start(home: Path) -> Iterator[None]:
    """Two commands at the same time: the second waits, and finds the server of the first."""
    try:
        lock = os.open(home / "run" / "start.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as cause:
        raise home_not_writable(home, cause) from cause
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def ensure_keeper(settings: Settings) -> bool:
    """Whether one had to be started. A new one finds what an earlier one left running."""
    link = KeeperLink(settings.keeper_socket)
    if link.is_alive():
        return False
    log = settings.log_dir / "keeper-start.log"
    with open(log, "wb") as output:
        # Its output goes to a file: a detached keeper must not hold the pipes of whoever started us.
        done = subprocess.run(
            [sys.executable, "-m", "spinyard.keeper", "--home", str(settings.home), "--detach"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=KEEPER_SECONDS,
            check=False,
        )
    # Taken: somebody else, a starting server perhaps, was faster, and it may not listen yet.
    if done.returncode in (0, KEEPER_EXIT_TAKEN) and _until(link.is_alive, KEEPER_SECONDS):
        return done.returncode == 0
    raise SystemFailure(
        f"the keeper did not start (exit code {done.returncode})",
        code="keeper_start_failed",
        next_step="see the lines above, and `spinyard doctor`",
        details={"errors": last_lines(log, 20)},
    )


def _start_server(settings: Settings) -> ServerFile:
    link = KeeperLink(settings.keeper_socket)
    if SERVER in link.supervised():
        # Registered, but it does not answer: it may have been given up, or started with other settings.
        stop_supervised(link, SERVER, grace_seconds=10.0)
    settings.server_file.unlink(missing_ok=True)
    env = [{"name": name, "value": value} for name, value in sorted(_environment().items())]
    link.change(
        "supervise", name=SERVER, argv=server_argv(settings.home), env=env, cwd=os.getcwd(), restart=True, hot=False
    )
    began = SystemClock().monotonic()
    while SystemClock().monotonic() - began < SERVER_SECONDS:
        server = answering(settings.home)
        if server is not None:
            return server
        tries = int(link.supervised().get(SERVER, {}).get("restarts") or 0)
        problem = _start_problem(settings, final=tries >= RESTARTS_MAX)
        if problem is not None:
            stop_supervised(link, SERVER, grace_seconds=5.0)
            raise problem
        time.sleep(POLL_SECONDS)
    problem = _start_problem(settings, final=True)
    stop_supervised(link, SERVER, grace_seconds=5.0)
    assert problem is not None, "final always explains"
    raise problem


def _environment() -> dict[str, str]:
    """What the server needs beside PATH, HOME and LANG, which the keeper hands on. Not everything: the keeper writes it
    down, and secrets of the shell have no place there."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(ENVIRONMENT_PREFIXES) and name != "SPINYARD_HOME"
    }


def _start_problem(settings: Settings, *, final: bool = False) -> SpinyardError | None:
    """What the server itself left as its reason to end, or after the time limit the end of its log."""
    failure = settings.run_dir / "server-error.json"
    try:
        told = json.loads(failure.read_bytes())
        failure.unlink()
    except (OSError, ValueError):
        told = None
    if told is not None:
        error = SystemFailure(str(told["message"]), code=str(told["code"]), next_step=str(told.get("nextStep") or ""))
        error.fault = str(told.get("fault") or "spinyard")
        error.status = int(told.get("status") or 503)
        return error
    if not final:
        return None
    log = log_of(settings.log_dir, SERVER)
    return SystemFailure(
        "the server did not get ready",
        code="server_start_failed",
        next_step=f"see the end of its log above; all of it: {log}",
        details={"errors": last_lines(log, 20)},
    )


def stop_supervised(link: KeeperLink, name: str, *, grace_seconds: float) -> bool:
    """False when there was none. Returns when it has ended."""
    if name not in link.supervised():
        return False
    link.change("unsupervise", name=name, signal=int(signal.SIGTERM), grace_seconds=grace_seconds)
    if not _until(lambda: name not in link.supervised(), grace_seconds + 10.0):
        raise SystemFailure(f"{name} does not end", code="cannot_stop", next_step="spinyard doctor")
    return True


def stop_keeper(link: KeeperLink, *, instances: bool) -> None:
    pid = int(link.ask("hello").get("pid") or 0)
    link.change("stop", instances=instances)
    if not _until(lambda: not (pid and process_exists(pid)) and not link.is_alive(), 60.0):
        raise SystemFailure(f"the keeper (pid {pid}) does not end", code="cannot_stop", next_step="spinyard doctor")


def _until(check: object, seconds: float) -> bool:
    assert callable(check)
    clock = SystemClock()
    deadline = clock.monotonic() + seconds
    while True:
        try:
            if check():
                return True
        except Unreachable:
            return True
        if clock.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
