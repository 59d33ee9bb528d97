"""The last steps before a program runs: in the forked child, between fork and exec. What fails here has a class.

Values from files and secret files are read here, in the process that becomes the program, so no other process and no
file of ours ever holds them.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
from typing import Final, NamedTuple, NoReturn

from spinyard.keeper import isolation, kernel
from spinyard.ports.keeper import EnvEntry

FILE_VALUE_BYTES_MAX: Final = 128 * 1024
CHANGED_SIGNALS: Final = (
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGCHLD,
    signal.SIGPIPE,
    signal.SIGXFSZ,
)
"""by Python, by the keeper or by the shim: the program finds them as any program does"""
INHERITED: Final = ("PATH", "HOME", "LANG")
OOM_SCORE: Final = "300"
"""When the machine itself runs out of memory, programs go before the keeper, the server and Envoy."""


class Command(NamedTuple):
    key: str
    mark: str
    argv: list[str]
    env: list[EnvEntry]
    cwd: str
    open_files: int | None
    processes: int | None
    isolation: str
    kept: tuple[str, ...] = ()
    """directories that isolation must leave in sight"""
    beside: int = 0
    """pid of an isolated program whose files this command shall see"""
    environ: dict[str, str] | None = None
    """what to start from instead of the few inherited variables: for commands run beside an instance"""
    expendable: bool = True


class LaunchFailed(Exception):
    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message


def launch(command: Command, files_limit: tuple[int, int], go: int, error: int, output: int, errors: int) -> NoReturn:
    """Never returns: the program, or exit 127 with the reason written to `error` (which exec closes). `errors`: its
    stderr."""
    try:
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if not os.read(go, 1):
            os._exit(127)  # the shim died before the death signal was set
        _reset(output, errors)
        _limit(command, files_limit)
        # Sources are read in the sight of the machine, before isolation hides /tmp.
        environment = environment_of(command)
        _isolate(command)
        _change_directory(command.cwd)
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        _execute(command.argv, environment)
    except LaunchFailed as failed:
        _report(error, failed.error_class, failed.message)
    except OSError as failed:
        _report(error, "ProviderError", f"cannot prepare {command.argv[0]}: {failed}")
    finally:
        os._exit(127)


def environment_of(command: Command) -> dict[str, str]:
    environment = command.environ
    if environment is None:
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    for entry in command.env:
        value = _value_of(entry, environment)
        if "\0" in value:
            raise LaunchFailed("ProviderError", f"the value of {entry['name']} contains a NUL byte")
        environment[entry["name"]] = value
    environment["SPINYARD_KEY"] = command.key
    environment["SPINYARD_KEEPER"] = command.mark
    return environment


def _value_of(entry: EnvEntry, so_far: dict[str, str]) -> str:
    name = entry["name"]
    if "secret_file" in entry:
        return _read(name, entry["secret_file"], "SecretDenied", "secret file")
    if "from_file" in entry:
        return _read(name, entry["from_file"], "ProviderError", "file")
    if "from_variable" in entry:
        source = entry["from_variable"]
        value = so_far.get(source, os.environ.get(source))
        if value is None:
            raise LaunchFailed(
                "ProviderError", f"{name}: the variable {source} is set neither before it nor for the keeper"
            )
        return value
    return entry.get("value", "")


def _read(name: str, path: str, error_class: str, what: str) -> str:
    """One newline at the end is not part of the value: editors put it there."""
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_VALUE_BYTES_MAX + 1)
    except OSError as failed:
        raise LaunchFailed(error_class, f"{name}: cannot read {what} {path}: {failed.strerror}") from failed
    if len(data) > FILE_VALUE_BYTES_MAX:
        raise LaunchFailed(error_class, f"{name}: {what} {path} is larger than {FILE_VALUE_BYTES_MAX} bytes")
    return os.fsdecode(data.removesuffix(b"\n"))


def _reset(output: int, errors: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    for number in CHANGED_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)


def _limit(command: Command, files_limit: tuple[int, int]) -> None:
    try:
        if command.expendable:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write(OOM_SCORE)
        files = files_limit if command.open_files is None else (command.open_files, command.open_files)
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
        if command.processes is not None:
            resource.setrlimit(resource.RLIMIT_NPROC, (command.processes, command.processes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (OSError, ValueError) as failed:
        raise LaunchFailed("CannotEnforce", f"a limit cannot be set here: {failed}") from failed


def _isolate(command: Command) -> None:
    try:
        if command.isolation == isolation.NAMESPACES:
            isolation.hide([*command.kept, command.cwd])
        elif command.beside:
            isolation.join(command.beside)
    except OSError as failed:
        raise LaunchFailed("CannotEnforce", f"isolation cannot be set up here: {failed}") from failed


def _change_directory(path: str) -> None:
    try:
        os.chdir(path or "/")
    except OSError as failed:
        raise LaunchFailed("CommandNotFound", f"working directory {path}: {failed.strerror}") from failed


def _execute(argv: list[str], environment: dict[str, str]) -> None:
    program = argv[0]
    try:
        os.execvpe(program, argv, environment)
    except OSError as failed:
        raise _explained(program, environment, failed) from failed
    except ValueError as failed:
        raise LaunchFailed("ProviderError", f"cannot execute {program}: {failed}") from failed


def _explained(program: str, environment: dict[str, str], failed: OSError) -> LaunchFailed:
    if failed.errno in (errno.ENOENT, errno.ENOTDIR):
        if "/" in program and os.path.exists(program):
            return LaunchFailed("CommandNotExecutable", f"{program}: the interpreter it names does not exist")
        where = "" if "/" in program else f" in PATH ({environment.get('PATH', 'not set')})"
        return LaunchFailed("CommandNotFound", f"{program}: not found{where}")
    if failed.errno == errno.ENOMEM:
        return LaunchFailed("OutOfMemory", f"{program}: {failed.strerror}")
    if failed.errno == errno.E2BIG:
        return LaunchFailed("CommandNotExecutable", f"{program}: arguments and environment together are too long")
    return LaunchFailed("CommandNotExecutable", f"{program}: {failed.strerror}")


def _report(fd: int, error_class: str, message: str) -> None:
    os.write(fd, json.dumps({"error_class": error_class, "error": message[:1000]}).encode() + b"\n")
